package forward

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// clusterStream creates a stream in a cluster of servers in this process, once
// there is a leader for it.
func clusterStream(t *testing.T, replicas int) (url string, nc *nats.Conn) {
	t.Helper()
	url = startCluster(t)[0].URL()
	nc, js := admin(t, url)
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: "TELEMETRY", Subjects: []string{"mqtt.>"}, Replicas: replicas, Duplicates: 100 * time.Millisecond})
		if err == nil {
			return url, nc
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		waitTick(t)
	}
}

// place puts a message at that place of the stream: a record, or for 0 another
// writer's message.
func place(t *testing.T, nc *nats.Conn, at uint64, seq mqttetl.Seq) {
	t.Helper()
	m := nats.NewMsg("mqtt.other")
	if seq != 0 {
		m = message(at, seq)
	}
	publish(t, nc, m)
}

// message is a record as it is sent for that place of the stream.
func message(at uint64, seq mqttetl.Seq) *nats.Msg {
	r := record(int(seq))
	r.Seq = seq
	c := natsmsg.Encoder{Prefix: "mqtt", LogID: testLogID, Tag: natsmsg.NewTagger(testKey)}
	w := c.EncodeAfter(&r, natsmsg.Link{Stream: at - 1})
	return &nats.Msg{Subject: w.Subject, Header: fieldsOf(w), Data: bytes.Clone(w.Body)}
}

// publish has a message stored. The servers of a cluster learn one after the
// other that a new stream takes it; until then nobody has it.
func publish(t *testing.T, nc *nats.Conn, m *nats.Msg) {
	t.Helper()
	ack, err := nc.RequestMsg(m, 5*time.Second)
	for deadline := time.Now().Add(20 * time.Second); errors.Is(err, nats.ErrNoResponders) && time.Now().Before(deadline); {
		waitTick(t)
		ack, err = nc.RequestMsg(m, 5*time.Second)
	}
	if err == nil {
		_, err = parseAnswer(ack)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// streamed are the records in the stream, "late" before one that says so, and
// "other" for what is not ours.
func streamed(t *testing.T, url string) (all []string) {
	t.Helper()
	for _, m := range contents(t, url) {
		seq, ok := natsmsg.ParseMsgID(m.Headers().Get(natsmsg.HeaderMsgID), testLogID)
		switch late := m.Headers().Get(natsmsg.HeaderLate); {
		case !ok:
			all = append(all, "other")
		case late != "":
			all = append(all, fmt.Sprintf("%d late %s", seq, late))
		default:
			all = append(all, strconv.Itoa(int(seq)))
		}
	}
	return all
}

// The process died when messages of another writer stood in the place of some of
// ours: those are published again, and no other.
func TestDisplacedRecords(t *testing.T) {
	url, nc := clusterStream(t, 3)
	_, js := admin(t, url)
	for name, c := range map[string]struct {
		stored mqttetl.Seq
		stream []mqttetl.Seq
		want   string
	}{
		"one":                    {2, []mqttetl.Seq{1, 2, 3, 0, 5, 6}, "[1 2 3 other 5 6 4 late 6 7 8]"},
		"position unknown":       {0, []mqttetl.Seq{1, 2, 3, 0, 5, 6}, "[1 2 3 other 5 6 4 late 6 7 8]"},
		"two, others at the end": {2, []mqttetl.Seq{1, 2, 0, 4, 0, 6, 0}, "[1 2 other 4 other 6 other 3 late 6 5 late 6 7 8]"},
		"before what is settled": {5, []mqttetl.Seq{1, 2, 0, 4, 5, 6}, "[1 2 other 4 5 6 7 8]"},
		"at the beginning":       {0, []mqttetl.Seq{0, 0, 3, 4}, "[other other 3 4 1 late 4 2 late 4 5 6 7 8]"},
		"others' before ours":    {0, []mqttetl.Seq{0, 0, 1, 2}, "[other other 1 2 3 4 5 6 7 8]"},
		"none":                   {2, []mqttetl.Seq{1, 2, 3, 0, 4, 5, 0, 6}, "[1 2 3 other 4 5 other 6 7 8]"},
		"dead letter, no other":  {0, []mqttetl.Seq{1, 2, 4, 5, 6}, "[1 2 4 5 6 7 8]"},
	} {
		t.Run(name, func(t *testing.T) {
			renew(t, js)
			for i, seq := range c.stream {
				place(t, nc, uint64(i)+1, seq)
			}
			<-time.After(200 * time.Millisecond) // the server forgets the ids
			l := newMemLog()
			l.grow(7)
			l.stored = c.stored
			r := forward(t, url, l)
			l.await(t, 7)
			r.stop(t)
			// The late one may be the last, and is not where the next start resumes.
			r = forward(t, url, l)
			l.grow(1)
			l.await(t, 8)
			r.stop(t)
			if got := fmt.Sprint(streamed(t, url)); got != c.want {
				t.Errorf("the stream holds\n%s, want\n%s", got, c.want)
			}
		})
	}
}

// The process dies after the late record, before any other.
func TestLateRecordAtTheEnd(t *testing.T) {
	url, nc := clusterStream(t, 1)
	for i, seq := range []mqttetl.Seq{1, 0, 3} {
		place(t, nc, uint64(i)+1, seq)
	}
	l := newMemLog()
	l.grow(3)
	for range 3 {
		r := forward(t, url, l)
		l.await(t, 3)
		r.stop(t)
		<-time.After(200 * time.Millisecond) // the server forgets the ids
	}
	l.stored = 0
	l.grow(1)
	forward(t, url, l)
	l.await(t, 4)
	if got, want := fmt.Sprint(streamed(t, url)), "[1 other 3 2 late 3 4]"; got != want {
		t.Errorf("the stream holds %s, want %s", got, want)
	}
}

// Another writer in the middle of full windows.
func TestOtherWriterInACluster(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			url, nc := clusterStream(t, replicas)
			l := newMemLog()
			forward(t, url, l)
			for i := range 20 {
				l.grow(300)
				l.await(t, mqttetl.Seq(300*i+1))
				if err := nc.Publish("mqtt.other", []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			l.await(t, 6000)
			seen, last := map[mqttetl.Seq]bool{}, mqttetl.Seq(0)
			for i, m := range contents(t, url) {
				seq, ok := natsmsg.ParseMsgID(m.Headers().Get(natsmsg.HeaderMsgID), testLogID)
				if !ok {
					continue
				}
				late := m.Headers().Get(natsmsg.HeaderLate)
				if seen[seq] || (seq < last) != (late != "") {
					t.Fatalf("message %d is record %d, late %q, after %d; a second time: %v", i+1, seq, late, last, seen[seq])
				}
				seen[seq], last = true, max(last, seq)
			}
			if len(seen) != 6000 {
				t.Errorf("%d records in the stream, want 6000", len(seen))
			}
		})
	}
}

// What is in the place of a record stands before a full window of large ones, at
// the beginning of the stream or after one of ours.
func TestDisplacedBeforeAFullWindow(t *testing.T) {
	url, nc := clusterStream(t, 1)
	_, js := admin(t, url)
	const size, window = 750_000, windowBytes / 751_000
	for _, displaced := range []mqttetl.Seq{1, 2} {
		t.Run(fmt.Sprint(displaced), func(t *testing.T) {
			renew(t, js)
			l := newMemLog()
			var want []string
			for seq := mqttetl.Seq(1); seq < displaced+window; seq++ {
				r := record(int(seq))
				r.Payload = make([]byte, size)
				l.add(r)
				m := nats.NewMsg("mqtt.other")
				if want = append(want, "other"); seq != displaced {
					m.Data = r.Payload
					m.Header.Set(natsmsg.HeaderMsgID, string(natsmsg.AppendMsgID(nil, testLogID, seq)))
					m.Header.Set(natsmsg.HeaderTag, string(natsmsg.NewTagger(testKey).Append(nil, seq, uint64(seq), 0)))
					want[seq-1] = fmt.Sprint(seq)
				}
				if _, err := nc.RequestMsg(m, 5*time.Second); err != nil {
					t.Fatal(err)
				}
			}
			last := l.last()
			want = append(want, fmt.Sprintf("%d late %d", displaced, last), fmt.Sprint(last+1))
			r := forward(t, url, l)
			l.grow(1)
			l.await(t, last+1)
			r.stop(t)
			if got := streamed(t, url); !slices.Equal(got, want) {
				t.Errorf("the stream holds %s, want %s", got, want)
			}
		})
	}
}

// renew makes the stream anew, which knows no message id.
func renew(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	s, err := js.Stream(t.Context(), "TELEMETRY")
	if err == nil {
		err = js.DeleteStream(t.Context(), "TELEMETRY")
	}
	if err == nil {
		_, err = js.CreateStream(t.Context(), s.CachedInfo().Config)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Large messages are read back one at a time, small ones many.
func TestAtOnce(t *testing.T) {
	for largest, want := range map[int]uint64{1: lookAtOnce, 100 << 10: lookAtOnce, 1 << 20: 8, 8 << 20: 1, 64 << 20: 1} {
		size := uint64(1)
		for range 5 {
			size = atOnce(size, largest)
		}
		if size != want {
			t.Errorf("%d of messages of %d bytes, want %d", size, largest, want)
		}
	}
}
