package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/internal/embedded"
)

// recycled is a Source of numbered records that uses memory again as soon as it
// may.
type recycled struct {
	n, at int
	ring  [Ahead][]mqttetl.Record
	turn  int
}

func (s *recycled) Next(context.Context) ([]mqttetl.Record, error) {
	if s.at == s.n {
		return nil, io.EOF
	}
	s.turn = (s.turn + 1) % Ahead
	if s.ring[s.turn] == nil {
		s.ring[s.turn] = make([]mqttetl.Record, 5)
	}
	recs := s.ring[s.turn][:min(5, s.n-s.at)]
	for i := range recs {
		s.at++
		recs[i] = mqttetl.Record{Seq: mqttetl.Seq(s.at), Time: int64(s.at) * int64(time.Second)}
	}
	return recs, nil
}

// What is still to be played is not overwritten, however far reading gets ahead.
func TestReadsNoFurtherThanAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPlayer(Config{Open: func(mqttetl.Seq, uint64) Source { return &recycled{n: 100} }})
		to := &ordered{t: t, confirmed: p.Confirmed}
		if err := p.Run(t.Context(), to); err != nil || to.last != 100 {
			t.Fatalf("played up to %d: %v", to.last, err)
		}
	})
}

// ordered is a Destination that takes every record in its turn, and its time.
type ordered struct {
	Destination
	t         *testing.T
	confirmed Confirm
	last      mqttetl.Seq
}

func (o *ordered) Send(_ context.Context, r *mqttetl.Record) error {
	if o.last++; r.Seq != o.last {
		o.t.Fatalf("record %d in place of %d", r.Seq, o.last)
	}
	<-time.After(time.Second) // of synctest's clock: all else has been done
	o.confirmed(r.Seq, 1)
	return nil
}

func (*ordered) Flush(context.Context) error { return nil }
func (*ordered) Drain(context.Context) error { return nil }

// Of a record that was sent, MQTT needs nothing any more.
func TestSendCopiesMQTT(t *testing.T) {
	b := newPicky(t, "")
	p := NewPlayer(Config{})
	to, err := OpenMQTT(t.Context(), MQTTConfig{URL: b.url, QoS: 1}, p.Confirmed, p.Refused, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	const messages = 2000
	r := mqttetl.Record{Message: mqttetl.Message{Topic: []byte("t")}}
	large := bytes.Repeat([]byte("-"), 100<<10) // more than is gathered before a write
	for i := range messages {
		r.Seq, r.Payload = mqttetl.Seq(i+1), fmt.Appendf(r.Payload[:0], "%04d", i)
		if i%100 == 0 {
			r.Payload = append(r.Payload, large...)
		}
		if err := to.Send(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
		clear(r.Payload)
	}
	if err := to.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range messages {
		want := fmt.Sprintf("%04d", i)
		if i%100 == 0 {
			want += string(large)
		}
		if !b.got[want] {
			t.Fatalf("message %d did not arrive as it was", i)
		}
	}
}

// Of a record that was sent, NATS needs nothing any more.
func TestSendCopies(t *testing.T) {
	n, err := embedded.StartNATS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	nc, err := nats.Connect(n.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	cfg := forward.Config{URL: n.URL(), LogID: "0123456789abcdef"}
	confirmed, down := func(mqttetl.Seq, int) {}, func(err error) { t.Error(err) }
	for name, open := range map[string]func(cfg forward.Config) (Destination, error){
		"core": func(cfg forward.Config) (Destination, error) { return OpenCore(t.Context(), cfg, confirmed, down) },
		"stream": func(cfg forward.Config) (Destination, error) {
			cfg.Stream = "S"
			d, _, err := OpenJetStream(t.Context(), cfg, 0, confirmed, func(r *RefusedError) error { return r }, down)
			return d, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			const messages = 2000
			cfg.SubjectPrefix = name
			to, err := open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			sub, err := nc.SubscribeSync(name + ".>")
			if err := errors.Join(err, nc.Flush()); err != nil {
				t.Fatal(err)
			}
			r := mqttetl.Record{Source: "s", Message: mqttetl.Message{Topic: make([]byte, 4), Payload: make([]byte, 4)}}
			for i := range messages {
				r.Seq = mqttetl.Seq(i + 1)
				copy(r.Topic, fmt.Sprintf("%04d", i))
				copy(r.Payload, r.Topic)
				if err := to.Send(t.Context(), &r); err != nil {
					t.Fatal(err)
				}
				copy(r.Topic, "gone")
				copy(r.Payload, "gone")
			}
			if err := to.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range messages {
				m, err := sub.NextMsg(10 * time.Second)
				if err != nil {
					t.Fatal(err)
				}
				if want := fmt.Sprintf("%04d", i); m.Subject != name+"."+want || string(m.Data) != want {
					t.Fatalf("%s %s, want %s", m.Subject, m.Data, want)
				}
			}
		})
	}
}

// A destination that says that all is well and has not confirmed it is not
// believed.
func TestUnconfirmedIsNotDone(t *testing.T) {
	p := NewPlayer(Config{Open: func(mqttetl.Seq, uint64) Source { return &recycled{n: 10} }})
	to := &noting{confirmed: func(mqttetl.Seq, int) {}}
	if err := p.Run(t.Context(), to); err == nil || p.Position().Done {
		t.Errorf("%v, position %+v", err, p.Position())
	}
}
