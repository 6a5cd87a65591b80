package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// picky is a broker that refuses one payload for lack of permission, and takes
// all others.
type picky struct {
	url     string
	refuses string

	mu  sync.Mutex
	got map[string]bool
}

func newPicky(t *testing.T, refuses string) *picky {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &picky{url: "mqtt://" + l.Addr().String(), refuses: refuses, got: map[string]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return b
}

func (b *picky) serve(c net.Conn) {
	defer c.Close()
	in := wire.NewInput(4096)
	for {
		first, body, err := in.Await(c)
		if err != nil {
			return
		}
		var answer []byte
		switch first >> 4 {
		case wire.Connect:
			answer = wire.AppendConnack(nil, true, wire.Answer{})
		case wire.Pingreq:
			answer = wire.AppendEmpty(nil, wire.Pingresp)
		case wire.Publish:
			answer = b.publish(first, body)
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

func (b *picky) publish(first byte, body []byte) (answer []byte) {
	h, _, err := wire.PublishHead(first, len(body), body, wire.Limits{V5: true})
	if err != nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	payload := string(body[h.Size:])
	if payload == b.refuses {
		return []byte{wire.Puback << 4, 3, byte(h.ID >> 8), byte(h.ID), wire.CodeNotAuthorized}
	}
	b.got[payload] = true
	if first&6 == 0 {
		return nil
	}
	return wire.AppendAck(nil, wire.Puback, h.ID)
}

// What is acknowledged after a refused record does not take the position past
// it: it is tried again.
func TestRefusedIsNotSkippedOverMQTT(t *testing.T) {
	const n = 3000
	b := newPicky(t, "500")
	path := filepath.Join(t.TempDir(), "position")
	for run := range 2 {
		r, err := OpenResume(path, Plan{})
		if err != nil {
			t.Fatal(err)
		}
		p := NewPlayer(Config{Resume: r, Open: func(after mqttetl.Seq, _ uint64) Source {
			s := &recycled{n: n, at: int(after)}
			return numbered{s}
		}})
		ctx, stop := context.WithCancelCause(t.Context())
		to, err := OpenMQTT(ctx, MQTTConfig{URL: b.url, QoS: 1}, p.Confirmed, p.Refused, stop)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Run(ctx, to)
		var refusal *RefusedError
		if !errors.As(err, &refusal) || refusal.Seq != 500 || p.Position().Seq != 499 || p.Account().Refused != 1 {
			t.Errorf("run %d: %v, position %d, %d refused", run+1, err, p.Position().Seq, p.Account().Refused)
		}
		if err := errors.Join(to.Close(), r.Close()); err != nil {
			t.Fatal(err)
		}
		stop(nil)
	}
}

// numbered gives its records their number as payload.
type numbered struct{ Source }

func (s numbered) Next(ctx context.Context) ([]mqttetl.Record, error) {
	recs, err := s.Source.Next(ctx)
	for i := range recs {
		recs[i].Topic, recs[i].Payload = []byte("a"), fmt.Append(nil, recs[i].Seq)
	}
	return recs, err
}

// silent is a connection to a broker that answers CONNECT, and then what the test has it answer.
func silent(t *testing.T, says wire.Properties) (m *MQTT, broker net.Conn, confirmed *atomic.Uint64, lost chan error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _, _ = wire.NewInput(4096).Await(c)
			_, _ = c.Write(wire.AppendConnack(nil, true, wire.Answer{Props: says}))
		}
		accepted <- c
	}()
	confirmed, lost = new(atomic.Uint64), make(chan error, 1)
	m, err = OpenMQTT(t.Context(), MQTTConfig{URL: "mqtt://" + l.Addr().String(), Version: 5, QoS: -1},
		func(upTo mqttetl.Seq, _ int) { confirmed.Store(uint64(upTo)) }, func(r *RefusedError) error { return r }, func(err error) { lost <- err })
	if err != nil {
		t.Fatal(err)
	}
	broker = <-accepted
	t.Cleanup(func() { _ = broker.Close(); _ = m.Close() })
	return m, broker, confirmed, lost
}

func send(t *testing.T, m *MQTT, seq mqttetl.Seq, qos mqttetl.Flags) {
	t.Helper()
	r := mqttetl.Record{Seq: seq, Message: mqttetl.Message{Topic: []byte("a"), Flags: qos}}
	if err := m.Send(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
}

// kinds are the types of the next packets that the broker gets.
func kinds(t *testing.T, in *wire.Input, broker net.Conn, n int) (kinds []byte) {
	t.Helper()
	for range n {
		first, _, err := in.Await(broker)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, first>>4)
	}
	return kinds
}

// The answer to a question is none for what was sent after it.
func TestAnswerConfirmsOnlyWhatWasBefore(t *testing.T) {
	m, broker, confirmed, _ := silent(t, nil)
	in := wire.NewInput(4096)
	flush := func() {
		t.Helper()
		if err := m.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pong := func() {
		t.Helper()
		if _, err := broker.Write(wire.AppendEmpty(nil, wire.Pingresp)); err != nil {
			t.Fatal(err)
		}
	}
	await := func(upTo uint64) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); confirmed.Load() != upTo; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("confirmed up to %d, want %d", confirmed.Load(), upTo)
			}
		}
	}
	send(t, m, 1, 0)
	flush() // asks about 1
	send(t, m, 2, 0)
	m.client.Ping() // as the keep-alive does: no question about a record
	flush()         // a question is open
	if got := kinds(t, in, broker, 4); !bytes.Equal(got, []byte{wire.Publish, wire.Pingreq, wire.Publish, wire.Pingreq}) {
		t.Fatalf("the broker got packets of types %d", got)
	}
	pong()
	await(1)
	pong() // whether we are there
	flush()
	if got := kinds(t, in, broker, 1); got[0] != wire.Pingreq || confirmed.Load() != 1 {
		t.Fatalf("packet of type %d, confirmed up to %d by the answer whether we are there", got[0], confirmed.Load())
	}
	pong()
	await(2)
}

// A broker that wants to hear from its clients more often than we say does
// (MQTT 5 §3.2.2.3.14).
func TestKeepAliveOfTheBroker(t *testing.T) {
	_, broker, _, _ := silent(t, wire.Properties{wire.ServerKeepAlive, 0, 1})
	_ = broker.SetReadDeadline(time.Now().Add(10 * time.Second)) // long before our own 20 s
	if got := kinds(t, wire.NewInput(64), broker, 1); got[0] != wire.Pingreq {
		t.Errorf("packet of type %d, want a PINGREQ", got[0])
	}
}

// What no broker may take is refused as the record that it is, before the broker
// ends the connection for it.
func TestTopicsThatNoBrokerTakes(t *testing.T) {
	m, _, _, _ := silent(t, nil)
	for topic, ok := range map[string]bool{"a/b": true, "$x/é": true, "": false, "a/+": false, "#": false, "a\x00": false, "\xfc/x": false, "\xed\xa0\x80": false} {
		if _, err := m.message(&mqttetl.Record{Message: mqttetl.Message{Topic: []byte(topic)}}); (err == nil) != ok {
			t.Errorf("%q: %v", topic, err)
		}
	}
}

// A connection that ends names the record that it may have ended for.
func TestLostNamesTheFirstUnanswered(t *testing.T) {
	m, broker, confirmed, lost := silent(t, nil)
	for seq := range mqttetl.Seq(3) {
		send(t, m, 5+2*seq, 1)
	}
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	kinds(t, wire.NewInput(4096), broker, 3)
	_, _ = broker.Write(wire.AppendAck(nil, wire.Puback, 1))
	_ = broker.Close()
	if err := <-lost; !errors.Is(err, mqttetl.ErrUnavailable) || !strings.Contains(err.Error(), "record 7 is the first without an answer") || confirmed.Load() != 5 {
		t.Errorf("%v, confirmed up to %d", err, confirmed.Load())
	}
}

// What the broker allows is kept to.
func TestConnackLimits(t *testing.T) {
	m, _, _, _ := silent(t, wire.Properties{wire.ReceiveMaximum, 0, 20, wire.MaximumQoS, 1, wire.RetainAvailable, 0, wire.MaximumPacketSize, 0, 0, 0, 100})
	p, err := m.message(&mqttetl.Record{Message: mqttetl.Message{Topic: []byte("a"), Flags: 2}})
	if err != nil || p.QoS != 1 || m.client.ReceiveMaximum != 20 {
		t.Errorf("QoS %d, %v; receive maximum %d", p.QoS, err, m.client.ReceiveMaximum)
	}
	for what, msg := range map[string]mqttetl.Message{
		"retained":  {Topic: []byte("a"), Flags: mqttetl.FlagRetain},
		"too large": {Topic: []byte("a"), Payload: make([]byte, 100)},
	} {
		if _, err := m.message(&mqttetl.Record{Message: msg}); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}

// A broker that does not let us in is told from one that is not there.
func TestLoginRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		version byte
		connack []byte
		login   bool
	}{
		"5, bad password":        {5, []byte{wire.Connack << 4, 3, 0, wire.CodeBadLogin, 0}, true},
		"3.1.1, not authorized":  {4, []byte{wire.Connack << 4, 2, 0, 5}, true},
		"3.1.1, not there now":   {4, []byte{wire.Connack << 4, 2, 0, 3}, false},
		"5 is unsupported by it": {5, []byte{wire.Connack << 4, 2, 0, 1}, false},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _, _ = wire.NewInput(64).Await(c)
				_, _ = c.Write(tt.connack)
				_ = c.Close()
			}
		}()
		_, err = OpenMQTT(t.Context(), MQTTConfig{URL: "mqtt://" + l.Addr().String(), Version: tt.version}, nil, nil, nil)
		if errors.Is(err, ErrLogin) != tt.login || errors.Is(err, mqttetl.ErrUnavailable) == tt.login || mqttetl.Hint(err) == "" && name != "3.1.1, not there now" {
			t.Errorf("%s: %v, hint %q", name, err, mqttetl.Hint(err))
		}
		l.Close()
	}
}

// The broker may have answered before Publish has returned the packet id.
func TestAnswerBeforePublishReturns(t *testing.T) {
	m, _, confirmed, _ := silent(t, nil)
	m.acknowledged(7, nil)
	m.enter(41, 7)
	if confirmed.Load() != 41 || len(m.flight) > 0 || len(m.early) > 0 || m.acked != 0 {
		t.Errorf("confirmed up to %d, in flight %+v, early %v, %d not acknowledged", confirmed.Load(), m.flight, m.early, m.acked)
	}
}
