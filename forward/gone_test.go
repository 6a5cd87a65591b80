package forward

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// growApart adds n records, each with a topic of its own.
func (l *memLog) growApart(n int) {
	for range n {
		r := record(int(l.last()) + 1)
		r.Topic = fmt.Appendf(nil, "t/%d", l.last()+1)
		l.add(r)
	}
}

// forgeAndDelete publishes a message with the id of a record, and has the stream delete it.
func (s *stranger) forgeAndDelete(seq mqttetl.Seq) {
	s.t.Helper()
	m := nats.NewMsg("mqtt.other")
	m.Header.Set(natsmsg.HeaderMsgID, string(natsmsg.AppendMsgID(nil, testLogID, seq)))
	for _, m := range []*nats.Msg{m, nats.NewMsg("mqtt.other")} {
		if _, err := s.nc.RequestMsg(m, 5*time.Second); err != nil { // perhaps the record was first
			s.t.Fatal(err)
		}
	}
}

// wantEach holds that the stream has each record up to last.
func wantEach(t *testing.T, url string, last mqttetl.Seq) {
	t.Helper()
	seen := map[mqttetl.Seq]bool{}
	for _, m := range contents(t, url) {
		if seq, ok := natsmsg.ParseMsgID(m.Headers().Get(natsmsg.HeaderMsgID), testLogID); ok && m.Subject() == fmt.Sprintf("mqtt.t.%d", seq) {
			seen[seq] = true
		}
	}
	for seq := mqttetl.Seq(1); seq <= last; seq++ {
		if !seen[seq] {
			t.Errorf("record %d is not there", seq)
		}
	}
}

// Somebody has used the ids of records, and the stream has deleted the messages since: each
// record is published all the same.
func TestForgedIDsThatAreGone(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		n := startNATS(t)
		nc, js := admin(t, n.URL())
		createStream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 })
		s := &stranger{t, nc, js, map[uint64]bool{}}
		s.forgeAndDelete(3)
		l := newMemLog()
		l.growApart(10)
		r := forward(t, n.URL(), l)
		l.await(t, 10)
		for _, seq := range []mqttetl.Seq{11, 12, 15, 20} {
			s.forgeAndDelete(seq)
		}
		l.growApart(10)
		l.await(t, 20)
		r.stop(t)
		s.forgeAndDelete(21)
		l.growApart(10)
		r = forward(t, n.URL(), l)
		l.await(t, 30)
		wantEach(t, n.URL(), 30)
		r.log.await(t, "nothing shows that it was the record")
	})
}

// The same all the time, for records that are under way.
func TestForgedIDsThatAreGoneWhileRunning(t *testing.T) {
	rnd := seeded(t)
	bothWays(t, func(t *testing.T) {
		n := startNATS(t)
		nc, js := admin(t, n.URL())
		createStream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 })
		s := &stranger{t, nc, js, map[uint64]bool{}}
		l := newMemLog()
		forward(t, n.URL(), l)
		for range 30 {
			l.growApart(200)
			for range 5 {
				s.forgeAndDelete(l.Stored() + 1 + mqttetl.Seq(rnd.IntN(100)))
			}
			l.await(t, l.last()-mqttetl.Seq(rnd.IntN(200)))
		}
		l.await(t, l.last())
		wantEach(t, n.URL(), l.last())
	})
}

// A message with the id of a record stands in its place, and is gone again when that shows.
func TestPlaceOfARecordThatIsGone(t *testing.T) {
	for _, c := range []struct {
		displaced mqttetl.Seq // an attempt has seen up to there that a record was not acknowledged in its turn
		late      bool
	}{{0, false}, {4, true}} {
		bothWays(t, func(t *testing.T) {
			n := startNATS(t)
			nc, js := admin(t, n.URL())
			createStream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 })
			s := &stranger{t, nc, js, map[uint64]bool{}}
			l := newMemLog()
			l.grow(5)
			l.stored = 2
			for at := uint64(1); at <= 4; at++ {
				m := message(at, mqttetl.Seq(at))
				if at == 3 {
					m.Subject = "mqtt.other"
				}
				s.publish(m)
			}
			s.publish(nats.NewMsg("mqtt.other"))
			f, err := New(Config{URL: n.URL(), Stream: "TELEMETRY", SubjectPrefix: "mqtt", LogID: testLogID, Key: testKey}, l)
			if err != nil {
				t.Fatal(err)
			}
			f.displaced = c.displaced
			ended := make(chan error, 1)
			go func() { ended <- f.Run(t.Context()) }()
			l.await(t, 5)
			late := false
			for _, m := range contents(t, n.URL()) {
				seq, _ := natsmsg.ParseMsgID(m.Headers().Get(natsmsg.HeaderMsgID), testLogID)
				late = late || seq == 3 && m.Headers().Get(natsmsg.HeaderLate) == "4"
			}
			if passed := count(t, f.metrics.passed); late != c.late || (passed == 1) == c.late {
				t.Errorf("displaced up to %d: published late %v, want %v; %v passed", c.displaced, late, c.late, passed)
			}
		})
	}
}

// A worker takes a message with the id of a record out of a work queue: it gets the record, too.
func TestForgedIDOutOfAWorkQueue(t *testing.T) {
	n := startNATS(t)
	nc, js := admin(t, n.URL())
	stream := createStream(t, js, func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy })
	consumer, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	work := func() {
		t.Helper()
		m, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
		if err == nil {
			err = m.DoubleAck(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		got[string(m.Data())]++
	}
	s := &stranger{t, nc, js, map[uint64]bool{}}
	got["forged"]++
	l := newMemLog()
	forward(t, n.URL(), l)
	for range 10 {
		s.forge(l.last() + 1)
		work()
		l.grow(20)
		for before := len(got); len(got) < before+20; {
			work()
		}
		l.await(t, l.last())
	}
	for seq := range 200 {
		if text := fmt.Sprintf("payload %d", seq+1); got[text] == 0 {
			t.Errorf("%q did not come", text)
		}
	}
}

// apart makes an object of each record, with a subject of its own.
type apart struct{}

func (apart) Map(r *mqttetl.Record) ([]Object, []mqttetl.DeadLetter, error) {
	return []Object{{Subject: fmt.Sprintf("out.%d", r.Seq), Route: "apart", Body: fmt.Append(nil, r.Seq)}}, nil, nil
}
func (apart) Ahead([]mqttetl.Record)   {}
func (apart) Settled()                 {}
func (apart) Rewind(mqttetl.Seq) error { return nil }

// Ids of objects were used by messages that are gone again: each object is published, and
// one in whose place a later one has come is not published after that.
func TestMappedIDsThatAreGone(t *testing.T) {
	n := startNATS(t)
	nc, js := admin(t, n.URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "P", Subjects: []string{"out.>"}, MaxMsgsPerSubject: 1}); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []int{1, 7, 30} {
		m := nats.NewMsg("out.forged")
		m.Header.Set(natsmsg.HeaderMsgID, fmt.Sprintf("%s-%d-apart-0", testLogID, seq))
		publish(t, nc, m)
		publish(t, nc, nats.NewMsg("out.forged"))
	}
	l := newMemLog()
	l.grow(50)
	p, said, stop := mapped(t, n.URL(), l, apart{}, "out.*")
	l.await(t, 50)
	stop()
	s, err := js.Stream(t.Context(), "P")
	if err != nil {
		t.Fatal(err)
	}
	for seq := range 50 {
		m, err := s.GetLastMsgForSubject(t.Context(), fmt.Sprintf("out.%d", seq+1))
		if err != nil || string(m.Data) != fmt.Sprint(seq+1) {
			t.Errorf("object %d: %v", seq+1, err)
		}
	}
	said.await(t, "nothing shows that it was the object")
	if got := count(t, p.cfg.Metrics.passed); got != 0 {
		t.Errorf("%v objects passed, want 0", got)
	}

	// All of it once more, as after a kill: what later objects have replaced stays so.
	l = newMemLog()
	l.grow(200)
	for range 2 {
		l.stored = 0
		p, _, stop = mapped(t, n.URL(), l, split{}, "out.*")
		l.await(t, 200)
		stop()
		for _, subject := range []string{"out.a", "out.b"} {
			if m, err := s.GetLastMsgForSubject(t.Context(), subject); err != nil || string(m.Data) != "200" {
				t.Errorf("%s ends with %q (%v), want 200", subject, m.Data, err)
			}
		}
	}
	if got := count(t, p.cfg.Metrics.passed); got != 398 {
		t.Errorf("%v objects passed, want 398", got)
	}
}
