package compare

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// natsBuffer is what nats.go gathers before it writes, in bytes.
const natsBuffer = 64 << 10

// connectNATS makes a connection by d. fail is called if it ends by itself, or
// the server complains about it.
func connectNATS(d *natsDialer, fail func(error), more ...nats.Option) (*nats.Conn, error) {
	lost := func(nc *nats.Conn, err error) {
		if err == nil && !errors.Is(nc.LastError(), io.EOF) {
			err = nc.LastError() // what the connection's stream has said
		}
		if err == nil {
			err = errors.New("closed by the server")
		}
		fail(fmt.Errorf("connection to NATS: %w", err))
	}
	options := append(d.at.options(), nats.WriteBufferSize(natsBuffer),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() || err != nil {
				lost(nc, err)
			}
		}),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { lost(nc, err) }),
	)
	nc, err := d.connect(append(options, more...))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", redacted(d.at.url), err)
	}
	return nc, nil
}

// options are those of every connection.
func (at natsAt) options() []nats.Option {
	o := []nats.Option{nats.Name("mqttetl bench"), nats.NoReconnect(), nats.Timeout(dialTime)}
	if at.creds != "" {
		o = append(o, nats.UserCredentials(at.creds))
	}
	return o
}

// natsPublisher publishes to JetStream by nats.go, with a reply subject for
// each slot of the window, so that an acknowledgement costs no lookup.
type natsPublisher struct {
	maker
	pace
	counts
	sending
	nc       *nats.Conn
	dialer   *natsDialer
	size     int
	subjects []string // by topic
	confirms *recorder
	late     *recorder

	window  int
	replies []string // by slot
	acks    *nats.Subscription

	sentAt []int64 // by slot: when it was sent, in open loop was to be sent; 0: free
	out    int     // unconfirmed messages
}

func newNATSPublisher(t *trial, at natsAt, publisher int) (*natsPublisher, error) {
	p := &natsPublisher{
		maker: t.maker(publisher), pace: t.pace(publisher), size: t.c.Size,
		confirms: t.confirm.of(publisher), late: t.late.of(publisher),
		window: t.c.Inflight, dialer: &natsDialer{at: at, m: &t.wire},
	}
	p.changed.L = &p.mu
	for i := range t.c.Topics {
		p.subjects = append(p.subjects, t.subject(publisher, i))
	}
	var err error
	if p.nc, err = connectNATS(p.dialer, p.fail); err != nil {
		return nil, err
	}
	p.sentAt = make([]int64, p.window)
	inbox := nats.NewInbox() + "."
	for i := range p.window {
		p.replies = append(p.replies, inbox+strconv.Itoa(i))
	}
	if p.acks, err = p.nc.Subscribe(inbox+"*", p.acknowledged); err == nil {
		err = errors.Join(p.acks.SetPendingLimits(-1, -1), p.nc.Flush())
	}
	if err != nil {
		p.nc.Close()
	}
	return p, err
}

// publish sends until its pace says that it is over, and waits until all is
// confirmed; quit ends the waiting.
func (p *natsPublisher) publish(quit <-chan struct{}) error {
	p.begin()
	defer p.end()
	defer p.until(quit, func() { p.dialer.give(0) })()
	payload := filler(p.size)
	for due := p.wait(p.next); due > 0; due = p.wait(p.next) {
		if err := p.send(payload, min(due, 64)); err != nil {
			return err
		}
	}
	return p.drain()
}

// send publishes n messages.
func (p *natsPublisher) send(payload []byte, n int) error {
	for range n {
		i := p.next
		at := now()
		if p.every > 0 {
			p.late.record(at - p.due(i))
			at = p.due(i)
		}
		subject := p.subjects[int(i)%len(p.subjects)]
		slot := int(i) % p.window
		if err := p.reserve(slot, &at); err != nil {
			return err
		}
		p.stamp(payload, at)
		if err := p.nc.PublishRequest(subject, p.replies[slot], payload); err != nil {
			return p.failed(fmt.Errorf("publish: %w", err))
		}
		p.sent.Add(1)
	}
	return nil
}

// reserve waits until the slot is free. In closed loop at is then the time of
// sending.
func (p *natsPublisher) reserve(slot int, at *int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.sentAt[slot] != 0 && p.err == nil {
		p.changed.Wait()
		if p.every == 0 {
			*at = now()
		}
	}
	p.sentAt[slot] = *at
	p.out++
	return p.err
}

// acknowledged takes a PubAck.
func (p *natsPublisher) acknowledged(m *nats.Msg) {
	slot, err := strconv.Atoi(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	at := now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || slot >= len(p.sentAt) || p.sentAt[slot] == 0 {
		p.err = errors.Join(p.err, fmt.Errorf("an acknowledgement on %s, which is not awaited", m.Subject))
		p.changed.Signal()
		return
	}
	if text := refusal(m); text != "" {
		p.refused.Add(1)
		if p.err == nil {
			p.err = fmt.Errorf("JetStream refuses a message: %s", text)
		}
	} else {
		p.confirms.record(at - p.sentAt[slot])
		p.confirmed.Add(1)
		p.lastConfirm.Store(at)
	}
	p.sentAt[slot] = 0
	// Not for each, or a full window would cost a wake-up a message.
	if p.out--; p.out <= p.window-max(1, p.window/4) || p.err != nil {
		p.changed.Signal()
	}
}

// refusal is why JetStream has not stored a message, "" if it has.
func refusal(m *nats.Msg) string {
	if m.Header.Get("Status") == "503" {
		return "no stream takes it"
	}
	if text := string(m.Data); strings.Contains(text[:min(len(text), 64)], `"error"`) || !strings.Contains(text, `"seq"`) {
		return text
	}
	return ""
}

// drain waits until everything is confirmed.
func (p *natsPublisher) drain() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.out > 0 && p.err == nil {
		p.changed.Wait()
	}
	return p.err
}

func (p *natsPublisher) windowed() int    { return p.window }
func (p *natsPublisher) counted() *counts { return &p.counts }

func (p *natsPublisher) close() {
	p.leave()
	p.dialer.give(closeTime)
	p.nc.Close()
}

// closeTime is how long the end of a connection may take.
const closeTime = time.Second

// natsSubscriber hears a subject by nats.go: core, or what a consumer of the
// stream delivers without acknowledgements.
type natsSubscriber struct {
	*ledger
	nc      *nats.Conn
	dialer  *natsDialer
	leaving atomic.Bool
	reader  chan struct{} // closed when the last callback has returned
}

// subscribeNATS subscribes to subject, or from stream if it is not "".
func subscribeNATS(t *trial, at natsAt, stream, subject string, l *ledger, fail func(error)) (*natsSubscriber, error) {
	s := &natsSubscriber{ledger: l, reader: make(chan struct{}), dialer: &natsDialer{at: at, m: &t.wire, most: math.MaxInt}}
	var err error
	s.nc, err = connectNATS(s.dialer, func(err error) {
		if !s.leaving.Load() {
			fail(err)
		}
	})
	if err != nil {
		return nil, err
	}
	sub, err := s.subscribe(stream, subject)
	if err == nil {
		sub.SetClosedHandler(func(string) { close(s.reader) })
		err = errors.Join(sub.SetPendingLimits(-1, -1), s.nc.Flush())
	}
	if err != nil {
		s.nc.Close()
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return s, nil
}

func (s *natsSubscriber) subscribe(stream, subject string) (*nats.Subscription, error) {
	if stream == "" {
		return s.nc.Subscribe(subject, s.message)
	}
	js, err := s.nc.JetStream(nats.MaxWait(dialTime))
	if err != nil {
		return nil, err
	}
	return js.Subscribe(subject, s.message, nats.BindStream(stream), nats.AckNone(), nats.DeliverAll(), nats.EnableFlowControl(), nats.IdleHeartbeat(10*time.Second))
}

func (s *natsSubscriber) message(m *nats.Msg) {
	at := now()
	var subject []byte
	if s.emqtt { // else it is not looked at
		subject = []byte(m.Subject)
	}
	if s.take(subject, m.Data, at) {
		s.arrived(at)
	}
}

// close ends the connection; the ledger is then complete.
func (s *natsSubscriber) close() {
	s.leaving.Store(true)
	s.dialer.give(closeTime)
	s.nc.Close()
	<-s.reader
}

func (s *natsSubscriber) book() *ledger { return s.ledger }
