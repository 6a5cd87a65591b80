package replay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttetl/mqttetl"
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
	in := bufio.NewReader(c)
	for {
		kind, body, err := readPacket(in)
		if err != nil {
			return
		}
		answer := []byte{packetConnack << 4, 3, 0, 0, 0}
		if kind>>4 == packetPublish {
			topic := int(body[0])<<8 | int(body[1])
			id, payload := body[2+topic:4+topic], string(body[5+topic:])
			answer = []byte{packetPuback << 4, 3, id[0], id[1], 0}
			b.mu.Lock()
			if payload == b.refuses {
				answer[4] = 0x87 // not authorized
			} else {
				b.got[payload] = true
			}
			b.mu.Unlock()
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// What is acknowledged behind a refused record does not take the position past
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

// The answer to a question is none for what was sent behind it.
func TestAnswerConfirmsOnlyWhatWasBefore(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	var written bytes.Buffer
	confirmed := mqttetl.Seq(0)
	m := &MQTT{conn: ours, out: bufio.NewWriter(&written), heard: time.Now(), changed: make(chan struct{}, 1),
		confirmed: func(upTo mqttetl.Seq, _ int) { confirmed = upTo }}
	m.flight = []inFlight{{seq: 1}}
	if err := m.Flush(t.Context()); err != nil { // asks about 1
		t.Fatal(err)
	}
	m.flight = append(m.flight, inFlight{seq: 2})
	if err := m.alive(); err != nil {
		t.Fatal(err)
	}
	m.pinged()
	if confirmed != 1 || written.Len() != 2 {
		t.Errorf("confirmed up to %d after %d bytes of questions and one answer", confirmed, written.Len())
	}
	if err := errors.Join(m.alive(), m.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
	m.pinged()
	if confirmed != 1 {
		t.Errorf("confirmed up to %d by the answer whether the broker is there", confirmed)
	}
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.pinged()
	if confirmed != 2 {
		t.Errorf("confirmed up to %d after all was asked and answered", confirmed)
	}
}

// A broker that wants to hear from its clients more often than we say does
// (MQTT 5 §3.2.2.3.14).
func TestKeepAliveOfTheBroker(t *testing.T) {
	limits, err := parseConnack([]byte{0, 0, 3, 0x13, 0, 4}, false)
	if err != nil || limits.keepAlive != 4*time.Second {
		t.Fatalf("%+v, %v", limits, err)
	}
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		defer ours.Close()
		var written bytes.Buffer
		m := &MQTT{conn: ours, out: bufio.NewWriter(&written), limits: limits, heard: time.Now(), closed: make(chan struct{})}
		go m.keepAlive()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if written.Len() != 2 {
			t.Errorf("%d bytes of PINGREQ in 3 s, want 2", written.Len())
		}
		close(m.closed)
	})
}

// What no broker may take is refused as the record that it is, before the broker
// ends the connection for it.
func TestTopicsThatNoBrokerTakes(t *testing.T) {
	limits, err := parseConnack([]byte{0, 0, 0}, false)
	if err != nil {
		t.Fatal(err)
	}
	for topic, ok := range map[string]bool{"a/b": true, "$x/é": true, "": false, "a/+": false, "#": false, "a\x00": false, "\xfc/x": false, "\xed\xa0\x80": false} {
		p := publish{topic: []byte(topic)}
		if err := p.check(limits); (err == nil) != ok {
			t.Errorf("%q: %v", topic, err)
		}
	}
}

// A connection that ends names the record that it may have ended for.
func TestLostNamesTheFirstUnanswered(t *testing.T) {
	ours, theirs := net.Pipe()
	theirs.Close()
	var told error
	m := &MQTT{conn: ours, down: func(err error) { told = err }, flight: []inFlight{{seq: 5, settled: true}, {seq: 7}, {seq: 9}}}
	m.lost(io.EOF)
	if told == nil || !errors.Is(told, io.EOF) || !strings.Contains(told.Error(), "record 7 is the first without an answer") {
		t.Error(told)
	}
}
