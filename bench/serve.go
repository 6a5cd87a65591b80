package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// serving is what the synthetic MQTT server is to do: accept one subscriber and
// deliver to it. 3.1.1 has no Receive Maximum; its window is a broker's default.
type serving struct {
	Messages int
	Payload  int
	Window   int // the smaller of this and the subscriber's Receive Maximum counts
	Rate     int // messages a second in open loop; 0: as fast as the window allows
}

// window311 is the window of a broker at its defaults, for MQTT 3.1.1.
const window311 = 20

// What the server says, in this order.
type (
	listening  struct{ Addr string }
	subscribed struct {
		Version byte
		Window  int
	}
	delivered struct {
		deliveryTimes
		Latency instrument.Quantiles // intended send time to PUBACK, with Rate
	}
)

// serve is the role of the server. It delivers when it is told to.
func serve(l *link, p serving) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	if err := l.say(listening{listener.Addr().String()}); err != nil {
		return err
	}
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &session{conn: conn, in: newInput(conn, 64<<10)}
	if err := s.accept(); err != nil {
		return err
	}
	window := min(p.Window, s.receiveMaximum)
	if s.version != 5 {
		window = min(window, window311)
	}
	if err := l.say(subscribed{s.version, window}); err != nil {
		return err
	}
	return s.deliver(l, p, window)
}

// A session is the server's side of the connection.
type session struct {
	conn           net.Conn
	in             *input
	version        byte
	receiveMaximum int
	subscribed     bool // to more than what the server says of itself
}

var errGone = errors.New("the subscriber has disconnected")

// accept answers until the subscriber has its subscription.
func (s *session) accept() error {
	body, err := s.in.awaitType(wire.Connect)
	if err != nil {
		return err
	}
	login, err := wire.ReadConnect(body)
	if err != nil {
		return err
	}
	s.version, s.receiveMaximum = login.Version, receiveMaximum(&login)
	if _, err := s.conn.Write(wire.AppendConnack(nil, s.version == wire.Version5, wire.Answer{})); err != nil {
		return err
	}
	for !s.subscribed {
		if err := s.control(); err != nil {
			return err
		}
	}
	return nil
}

// control reads one packet and answers it.
func (s *session) control() error {
	first, body, err := s.in.await()
	if err != nil {
		return err
	}
	return s.answer(first>>4, body)
}

// answer answers a packet that is no PUBACK. Subscriptions to what a broker
// says of itself are granted and never served.
func (s *session) answer(kind byte, body []byte) error {
	switch kind {
	case wire.Pingreq:
		_, err := s.conn.Write(wire.AppendEmpty(nil, wire.Pingresp))
		return err
	case wire.Subscribe:
		filters, suback, err := grant(body, s.version)
		if err != nil {
			return err
		}
		for _, f := range filters {
			s.subscribed = s.subscribed || !strings.HasPrefix(f, "$")
		}
		_, err = s.conn.Write(suback)
		return err
	case wire.Disconnect:
		return errGone
	}
	return fmt.Errorf("unexpected packet type %d", kind)
}

// deliver waits for the word, delivers, reports and answers until the end.
func (s *session) deliver(l *link, p serving, window int) error {
	told := make(chan error, 1)
	go func() {
		told <- l.awaitGo()
		s.conn.SetReadDeadline(time.Unix(1, 0)) // wakes idle
	}()
	if err := s.idle(told); err != nil {
		return err
	}
	d := newDelivery(s.conn, s.in, newFrames(p.Payload, s.version), p.Messages, window)
	d.control = s.answer
	result, err := run(d, p.Rate)
	if err != nil {
		return err
	}
	if err := l.say(result); err != nil {
		return err
	}
	for err == nil {
		err = s.control()
	}
	return nil // the subscriber has gone
}

// run delivers with the given rate, 0 for as fast as the window allows.
func run(d *delivery, rate int) (delivered, error) {
	if rate == 0 {
		err := d.run()
		return delivered{deliveryTimes: d.times}, err
	}
	p := newPacer(d, rate)
	err := p.run()
	return delivered{d.times, p.latencies.Quantiles(true)}, err
}

// idle answers until the word to begin has come.
func (s *session) idle(told <-chan error) error {
	err := s.control()
	for err == nil {
		err = s.control()
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	s.conn.SetReadDeadline(time.Time{})
	return <-told
}
