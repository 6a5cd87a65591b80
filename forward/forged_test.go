package forward

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// bothWays runs f with messages that follow a record, and a number.
func bothWays(t *testing.T, f func(t *testing.T)) {
	t.Run("by name", f)
	before := mayReplicate
	defer func() { mayReplicate = before }()
	mayReplicate = func(*jetstream.StreamInfo) bool { return true }
	t.Run("by number", f)
}

// stranger is somebody who may publish to the stream's subjects and read them.
type stranger struct {
	t    *testing.T
	nc   *nats.Conn
	js   jetstream.JetStream
	sent map[uint64]bool // numbers of its messages
}

// publish has a message stored, wherever that may be.
func (s *stranger) publish(m *nats.Msg) {
	s.t.Helper()
	m.Reply = ""
	m.Header.Del(natsmsg.HeaderLastID)
	m.Header.Del(natsmsg.HeaderLastSeq)
	ack, err := s.nc.RequestMsg(m, 5*time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := parseAnswer(ack)
	if err != nil || a.Duplicate {
		s.t.Fatalf("the stranger's message is not stored: %s", ack.Data)
	}
	s.sent[a.Seq] = true
}

// forge publishes a message that says it is a record.
func (s *stranger) forge(seq mqttetl.Seq, more ...string) {
	s.t.Helper()
	m := nats.NewMsg("mqtt.other")
	m.Data = []byte("forged")
	m.Header.Set(natsmsg.HeaderMsgID, string(natsmsg.AppendMsgID(nil, testLogID, seq)))
	m.Header.Set(natsmsg.HeaderTag, "0123456789abcdef")
	for i := 0; i < len(more); i += 2 {
		m.Header[more[i]] = []string{more[i+1]}
	}
	s.publish(m)
}

// copy publishes a message of the stream once more, whole or without its tag.
func (s *stranger) copy(n uint64, tagged bool) {
	s.t.Helper()
	stream, err := s.js.Stream(s.t.Context(), "TELEMETRY")
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := stream.GetMsg(s.t.Context(), n)
	if err != nil {
		s.t.Fatal(err)
	}
	h := maps.Clone(m.Header)
	if !tagged {
		h.Del(natsmsg.HeaderTag)
	}
	s.publish(&nats.Msg{Subject: m.Subject, Header: h, Data: m.Data})
}

// wantOurs holds that the stream has each record up to last once and in order but
// for those that say they are late, beside what the stranger has published.
func (s *stranger) wantOurs(url string, last mqttetl.Seq) {
	s.t.Helper()
	seen, newest := map[mqttetl.Seq]bool{}, mqttetl.Seq(0)
	for i, m := range contents(s.t, url) {
		if s.sent[uint64(i)+1] {
			continue
		}
		seq, _ := natsmsg.ParseMsgID(m.Headers().Get(natsmsg.HeaderMsgID), testLogID)
		late := m.Headers().Get(natsmsg.HeaderLate) != ""
		if seen[seq] || (seq < newest) != late || string(m.Data()) != string(record(int(seq)).Payload) {
			s.t.Fatalf("message %d is record %d %q after %d, late: %v, there before: %v", i+1, seq, m.Data(), newest, late, seen[seq])
		}
		seen[seq], newest = true, max(newest, seq)
	}
	for seq := mqttetl.Seq(1); seq <= last; seq++ {
		if !seen[seq] {
			s.t.Errorf("record %d is not there", seq)
		}
	}
	if len(seen) != int(last) || newest != last {
		s.t.Fatalf("the stream holds %d records up to %d, want %d", len(seen), newest, last)
	}
}

// What others have published behind our last message neither ends the forwarder
// nor has it leave out a record or send one twice, wherever the log's own position
// is after a kill and although the server has forgotten the ids.
func TestForgedPosition(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		for name, attack := range map[string]func(*stranger){
			"beyond the log":        func(s *stranger) { s.forge(1_000_000) },
			"largest":               func(s *stranger) { s.forge(1<<64 - 1) },
			"not published yet":     func(s *stranger) { s.forge(35) },
			"the next ones":         func(s *stranger) { s.forge(21); s.forge(22); s.forge(23) },
			"after a late one":      func(s *stranger) { s.forge(19, natsmsg.HeaderLate, "35") },
			"long ago":              func(s *stranger) { s.forge(3) },
			"copy of the last":      func(s *stranger) { s.copy(20, true) },
			"copy of an older one":  func(s *stranger) { s.copy(5, true) },
			"copies":                func(s *stranger) { s.copy(20, true); forget(); s.copy(20, false); s.copy(1, true) },
			"copies, last first":    func(s *stranger) { s.copy(20, true); s.copy(19, true); s.copy(18, true) },
			"copy without tag":      func(s *stranger) { s.copy(20, false); s.copy(12, false) },
			"copy of another place": func(s *stranger) { s.publish(message(99, 35)) },
			"many": func(s *stranger) {
				for i := range 300 {
					s.forge(mqttetl.Seq(20 + i))
				}
			},
		} {
			for _, stored := range []mqttetl.Seq{0, 10, 20} {
				t.Run(fmt.Sprint(name, ", stored ", stored), func(t *testing.T) {
					t.Parallel()
					url, s := attacked(t)
					l := newMemLog()
					l.grow(20)
					r := forward(t, url, l)
					l.await(t, 20)
					r.stop(t)
					forget()
					attack(s)
					forget()
					for range 2 {
						l.stored = stored
						l.grow(20)
						r = forward(t, url, l)
						l.await(t, l.last())
						r.stop(t)
						forget()
					}
					s.wantOurs(url, 60)
				})
			}
		}
	})
}

// attacked is a server of its own with a stream that forgets ids soon.
func attacked(t *testing.T) (url string, s *stranger) {
	t.Helper()
	url = startNATS(t).URL()
	nc, js := admin(t, url)
	createStream(t, js, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond })
	return url, &stranger{t, nc, js, map[uint64]bool{}}
}

// forget waits until the server has forgotten the ids.
func forget() { <-time.After(250 * time.Millisecond) }

// Somebody publishes under the ids of records before they are: the server calls
// the records duplicates, and they are forwarded all the same.
func TestIDsInUse(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		n := startNATS(t)
		nc, js := admin(t, n.URL())
		createStream(t, js, func(*jetstream.StreamConfig) {}) // it remembers ids for two minutes
		l := newMemLog()
		l.grow(10)
		r := forward(t, n.URL(), l)
		l.await(t, 10)
		s := &stranger{t, nc, js, map[uint64]bool{}}
		for _, seq := range []mqttetl.Seq{11, 12, 13, 17, 20} {
			s.forge(seq)
		}
		s.forge(12, natsmsg.HeaderMsgID, testLogID+"-012")
		l.grow(10)
		l.await(t, 20)
		s.wantOurs(n.URL(), 20)
		r.log.await(t, "another writer publishes messages with the ids of this log's records")
		if d := l.deadLetters(); len(d) > 0 {
			t.Errorf("dead letters: %v", d)
		}
		if got := count(t, r.metrics.forged); got == 0 {
			t.Error("no forged id is counted")
		}
	})
}

// Somebody always has a message with the next record's id in place before it is
// sent, with others behind it that would follow it by name.
func TestNextIDInUse(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		n := startNATS(t)
		nc, js := admin(t, n.URL())
		createStream(t, js, func(*jetstream.StreamConfig) {})
		s := &stranger{t, nc, js, map[uint64]bool{}}
		l := newMemLog()
		forward(t, n.URL(), l)
		for range 10 {
			l.grow(20)
			l.await(t, l.last())
			s.forge(l.last() + 1)
		}
		l.grow(20)
		l.await(t, l.last())
		s.wantOurs(n.URL(), l.last())
	})
}

// A copy of the last message has its id: the next message follows it as well.
func TestCopyOfThePredecessor(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		url, s := attacked(t)
		l := newMemLog()
		l.grow(10)
		r := forward(t, url, l)
		l.await(t, 10)
		for i := range 5 {
			forget()
			s.copy(uint64(10+2*i), true)
			l.grow(1)
			l.await(t, mqttetl.Seq(11+i))
		}
		r.stop(t)
		forget()
		l.stored = 0
		l.grow(5)
		forward(t, url, l)
		l.await(t, 20)
		s.wantOurs(url, 20)
	})
}

// An earlier build has published without tags, and was killed before its
// position was stored.
func TestMessagesOfAnEarlierBuild(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		url, s := attacked(t)
		l := newMemLog()
		l.grow(2000)
		r := forward(t, url, l, func(c *Config) { c.Key = nil })
		l.await(t, 2000)
		r.stop(t)
		forget()
		for _, stored := range []mqttetl.Seq{700, 2100, 1500} {
			l.stored = stored
			l.grow(100)
			r = forward(t, url, l)
			l.await(t, l.last())
			r.stop(t)
		}
		s.wantOurs(url, 2300)
	})
}

// Whoever publishes forged ids all the time costs attempts and nothing else.
func TestForgedWhileRunning(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		url, s := attacked(t)
		l := newMemLog()
		forward(t, url, l)
		for i := range 20 {
			l.grow(300)
			l.await(t, mqttetl.Seq(300*i+1))
			s.forge(mqttetl.Seq(300*i + 10_000))
		}
		l.await(t, 6000)
		seen := map[mqttetl.Seq]int{}
		for i, m := range contents(t, url) {
			if seq, ok := natsmsg.ParseMsgID(m.Headers().Get(natsmsg.HeaderMsgID), testLogID); ok && !s.sent[uint64(i)+1] {
				seen[seq]++
			}
		}
		for seq := mqttetl.Seq(1); seq <= 6000; seq++ {
			if seen[seq] != 1 {
				t.Fatalf("record %d is there %d times, want once", seq, seen[seq])
			}
		}
	})
}

// Somebody publishes under the ids of objects before they are: each object is
// published all the same, and not a second time when it comes again.
func TestMappedIDsInUse(t *testing.T) {
	n := startNATS(t)
	nc, js := admin(t, n.URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "P", Subjects: []string{"out.>"}}); err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg("out.forged")
	m.Data = []byte("forged")
	for _, id := range []string{"-20-pairs-1", "-70-pairs-0", "-70-pairs-0+"} {
		m.Header.Set(natsmsg.HeaderMsgID, testLogID+id)
		publish(t, nc, m)
	}
	l := newMemLog()
	l.grow(99)
	for range 2 {
		l.stored = 0
		_, _, stop := mapped(t, n.URL(), l, pairs{"out"}, "out.*")
		l.await(t, 99)
		stop()
	}
	times := map[string]int{}
	for _, text := range bodies(t, n.URL(), "P") {
		times[text]++
	}
	for seq := 10; seq < 100; seq += 10 {
		for k := range 2 {
			if text := fmt.Sprintf("out.%d %d/%d", seq%7, seq, k); times[text] != 1 {
				t.Errorf("%q is there %d times, want once", text, times[text])
			}
		}
	}
	if len(times) != 19 { // and "forged"
		t.Errorf("%d different messages, want 19", len(times))
	}
}

// Ids that are in use one after the other do not have the publisher look at the streams
// again and again without a pause.
func TestManyMappedIDsInUse(t *testing.T) {
	n := startNATS(t)
	nc, js := admin(t, n.URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "P", Subjects: []string{"out.>"}}); err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg("out.forged")
	m.Data = []byte("forged")
	const times = 4
	for i := range times {
		m.Header.Set(natsmsg.HeaderMsgID, testLogID+"-20-pairs-1"+strings.Repeat("+", i))
		publish(t, nc, m)
	}
	l := newMemLog()
	l.grow(20)
	begun := time.Now()
	mapped(t, n.URL(), l, pairs{"out"}, "out.*")
	l.await(t, 20)
	least := time.Duration(0) // the pauses after the second and further ones
	for i := range times - 1 {
		least += retryFirst << i / 2
	}
	if took := time.Since(begun); took < least {
		t.Errorf("%d ids tried within %v, want %v at least", times, took, least)
	}
}
