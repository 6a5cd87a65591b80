package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	dto "github.com/prometheus/client_model/go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// pairs makes two objects of every tenth record, and a dead letter of every
// hundredth.
type pairs struct{ subject string }

func (p pairs) Map(r *mqttetl.Record) (objects []Object, letters []mqttetl.DeadLetter, err error) {
	if r.Seq%100 == 0 {
		return nil, []mqttetl.DeadLetter{{Seq: r.Seq, Stage: "publish:pairs", Reason: "a hundredth"}}, nil
	}
	for n := range 2 {
		if r.Seq%10 == 0 {
			objects = append(objects, Object{Subject: fmt.Sprintf("%s.%d", p.subject, r.Seq%7), Route: "pairs", N: n, Body: fmt.Appendf(nil, "%d/%d", r.Seq, n)})
		}
	}
	return objects, letters, nil
}

// mapped starts a Publisher and returns what ends it.
func mapped(t *testing.T, url string, log Log, m Mapper, subjects ...string) (p *Publisher, said *lines, stop func()) {
	t.Helper()
	return mappedWith(t, url, log, m, func(*Publisher) {}, subjects...)
}

// mappedWith lets change change it before it runs.
func mappedWith(t *testing.T, url string, log Log, m Mapper, change func(*Publisher), subjects ...string) (p *Publisher, said *lines, stop func()) {
	t.Helper()
	said = newLines()
	p, err := NewPublisher(PublisherConfig{Subjects: subjects, Config: Config{URL: url, Stream: "TELEMETRY", SubjectPrefix: "mqtt", LogID: testLogID,
		Logger: slog.New(slog.NewTextHandler(said, nil))}}, log, m)
	if err != nil {
		t.Fatal(err)
	}
	change(p)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Run does not end")
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return p, said, stop
}

// bodies are the messages of a stream, by their ids.
func bodies(t *testing.T, url, stream string) map[string]string {
	t.Helper()
	_, js := admin(t, url)
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for n := s.CachedInfo().State.FirstSeq; n <= s.CachedInfo().State.LastSeq; n++ {
		m, err := s.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		id := m.Header.Get(natsmsg.HeaderMsgID)
		if _, ok := all[id]; ok {
			t.Errorf("%s stands twice in the stream", id)
		}
		all[id] = m.Subject + " " + string(m.Data)
	}
	return all
}

func (pairs) Ahead([]mqttetl.Record)   {}
func (pairs) Settled()                 {}
func (pairs) Rewind(mqttetl.Seq) error { return nil }

// wantPairs are the objects of the first n records.
func wantPairs(t *testing.T, url, stream, subject string, n int) {
	t.Helper()
	got := bodies(t, url, stream)
	want := 0
	for seq := 10; seq <= n; seq += 10 {
		for k := range 2 {
			if seq%100 == 0 {
				continue
			}
			want++
			id := fmt.Sprintf("%s-%d-pairs-%d", testLogID, seq, k)
			if text := fmt.Sprintf("%s.%d %d/%d", subject, seq%7, seq, k); got[id] != text {
				t.Fatalf("%s is %q, want %q", id, got[id], text)
			}
		}
	}
	if len(got) != want {
		t.Errorf("%d objects, want %d", len(got), want)
	}
}

func TestMappedObjectsAreEachThereOnce(t *testing.T) {
	n := startProcess(t)
	log := newMemLog()
	log.grow(20_000)
	_, said, stop := mapped(t, n.URL(), log, pairs{"out"}, "out.*")
	log.await(t, 5000)
	if err := n.Kill(); err != nil { // in mid-stream
		t.Fatal(err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	log.await(t, 12_000)
	stop()
	p, _, _ := mapped(t, n.URL(), log, pairs{"out"}, "out.*") // as after a crash
	log.await(t, 20_000)
	wantPairs(t, n.URL(), "TELEMETRY_MAPPED", "out", 20_000)
	if got := len(log.deadLetters()); got != 200 {
		t.Errorf("%d dead letters", got)
	}
	if s := p.Stats(); !s.Connected || s.Cursor != 20_000 || s.LastError != nil {
		t.Errorf("stats %+v", s)
	}
	said.await(t, "stream created")
}

// A stream that is there already is used; where one that is ours lacks a
// subject, the error says what to do, and the log is kept.
func TestMappedStreams(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "MINE", Subjects: []string{"out.>"}}); err != nil {
		t.Fatal(err)
	}
	log := newMemLog()
	log.grow(1000)
	_, _, stop := mapped(t, n.URL(), log, pairs{"out"}, "out.*")
	log.await(t, 1000)
	stop()
	wantPairs(t, n.URL(), "MINE", "out", 1000)

	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TELEMETRY_MAPPED", Subjects: []string{"else"}})
	if err != nil {
		t.Fatal(err)
	}
	log = newMemLog()
	log.grow(1000)
	p, said, _ := mapped(t, n.URL(), log, pairs{"new"}, "new.*")
	said.await(t, "nats stream edit TELEMETRY_MAPPED --subjects 'else,new.*'")
	if s := p.Stats(); s.Connected || s.LastError == nil || !strings.Contains(s.LastError.Error(), "no stream takes new.*") || log.Stored() != 0 || len(log.deadLetters()) > 0 {
		t.Errorf("stats %+v, log %d", s, log.Stored())
	}
	if _, err := js.UpdateStream(t.Context(), jetstream.StreamConfig{Name: "TELEMETRY_MAPPED", Subjects: []string{"else", "new.*"}}); err != nil {
		t.Fatal(err)
	}
	log.await(t, 1000)
	wantPairs(t, n.URL(), "TELEMETRY_MAPPED", "new", 1000)
}

// large makes an object larger than the server takes, and a small one.
type large struct{}

func (large) Map(r *mqttetl.Record) ([]Object, []mqttetl.DeadLetter, error) {
	return []Object{{Subject: "out.a", Route: "r", Body: make([]byte, 2<<20)}, {Subject: "out.a", Route: "r", N: 1, Body: []byte("x")}}, nil, nil
}

func (large) Ahead([]mqttetl.Record)   {}
func (large) Settled()                 {}
func (large) Rewind(mqttetl.Seq) error { return nil }

func TestMappedObjectTooLarge(t *testing.T) {
	n := startNATS(t)
	log := newMemLog()
	log.grow(1)
	mapped(t, n.URL(), log, large{}, "out.*")
	log.await(t, 1)
	if d := log.deadLetters(); len(d) != 1 || d[0].Stage != "publish:r" || !strings.Contains(d[0].Reason, "max_payload") {
		t.Errorf("dead letters %+v", d)
	}
	if got := bodies(t, n.URL(), "TELEMETRY_MAPPED"); len(got) != 1 {
		t.Errorf("stream %v", got)
	}
}

func TestDistinct(t *testing.T) {
	for want, in := range map[string][]string{
		"a.*":   {"a.*", "a.b", "a.*"},
		">":     {"a.b", ">", "a.>"},
		"a.b c": {"c", "a.b"},
		"a.>":   {"a.*.c", "a.>"},
	} {
		got := distinct(in)
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%v: got %v, want %s", in, got, want)
		}
	}
}

func refusedSubjects(t *testing.T, p *Publisher) float64 {
	t.Helper()
	var m dto.Metric
	if err := p.cfg.Metrics.refused.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}

// stumbling is a mapper that cannot begin at first.
type stumbling struct {
	apart
	fails *int
}

func (s stumbling) Rewind(mqttetl.Seq) error {
	if *s.fails--; *s.fails >= 0 {
		return errors.New("descriptor.pb: no such file or directory")
	}
	return nil
}

// What the mapper lacks for a while holds up its objects, and ends nothing.
func TestMapperThatCannotBegin(t *testing.T) {
	n := startNATS(t)
	l := newMemLog()
	l.grow(20)
	fails := 3
	_, said, _ := mapped(t, n.URL(), l, stumbling{fails: &fails}, "out.*")
	l.await(t, 20)
	said.await(t, "map records: descriptor.pb: no such file")
}

// split makes an object for each of two subjects of every record.
type split struct{}

func (split) Map(r *mqttetl.Record) (objects []Object, letters []mqttetl.DeadLetter, err error) {
	for n, subject := range []string{"out.a", "out.b"} {
		objects = append(objects, Object{Subject: subject, Route: "r", N: n, Body: fmt.Append(nil, r.Seq)})
	}
	return objects, nil, nil
}
func (split) Ahead([]mqttetl.Record)   {}
func (split) Settled()                 {}
func (split) Rewind(mqttetl.Seq) error { return nil }

// A stream that takes only some of the subjects holds up the log for a while
// and no longer: what it does not take are dead letters, until it takes them.
func TestMappedStreamTakesSome(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "MINE", Subjects: []string{"out.a"}}); err != nil {
		t.Fatal(err)
	}
	log := newMemLog()
	log.grow(2000)
	p, said, _ := mappedWith(t, n.URL(), log, split{}, func(p *Publisher) { p.refused.patience = 3 * time.Second }, "out.*")
	said.await(t, "create a JetStream stream that takes the subject")
	if s := p.Stats(); s.Connected || s.LastError == nil || !strings.Contains(s.LastError.Error(), "out.b: no stream takes the subject") || log.Stored() != 0 {
		t.Errorf("stats %+v, log %d", s, log.Stored())
	}
	log.await(t, 2000)
	letters := log.deadLetters()
	if len(letters) != 2000 || letters[0].Stage != "publish:r" || letters[0].Reason != "publish to out.b: no stream takes the subject" {
		t.Errorf("%d dead letters, the first %+v", len(letters), letters[0])
	}
	said.await(t, "when one does\" route=r subject=out.b")
	if s := p.Stats(); s.Connected || refusedSubjects(t, p) != 1 || count(t, p.cfg.Metrics.published) != 2000 {
		t.Errorf("stats %+v, %v refused, %v published", s, refusedSubjects(t, p), count(t, p.cfg.Metrics.published))
	}
	if _, err := js.UpdateStream(t.Context(), jetstream.StreamConfig{Name: "MINE", Subjects: []string{"out.*"}}); err != nil {
		t.Fatal(err)
	}
	log.grow(1000)
	log.await(t, 3000)
	said.await(t, "published again\" route=r subject=out.b")
	if s := p.Stats(); !s.Connected || s.LastError != nil || len(log.deadLetters()) != 2000 {
		t.Errorf("stats %+v, %d dead letters", s, len(log.deadLetters()))
	}
	if got := len(bodies(t, n.URL(), "MINE")); got != 4000 {
		t.Errorf("%d objects", got)
	}
}

// While records come without a pause, too, it is noticed that the streams have
// been mended.
func TestMappedStreamsAreLookedAtAgain(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TELEMETRY_MAPPED", Subjects: []string{"else"}}); err != nil {
		t.Fatal(err)
	}
	log := newMemLog()
	log.grow(10)
	p, said, _ := mappedWith(t, n.URL(), log, split{}, func(p *Publisher) { p.refused.patience, p.refused.every = 0, time.Second }, "out.*")
	log.await(t, 10)
	said.await(t, "what no stream takes becomes dead letters")
	if s := p.Stats(); s.Connected || len(log.deadLetters()) != 20 {
		t.Errorf("stats %+v, %d dead letters", s, len(log.deadLetters()))
	}
	if _, err := js.UpdateStream(t.Context(), jetstream.StreamConfig{Name: "TELEMETRY_MAPPED", Subjects: []string{"else", "out.*"}}); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); !p.Stats().Connected; log.await(t, log.last()) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("stats %+v", p.Stats())
		}
		log.grow(1)
	}
	if len(log.deadLetters()) != 20 {
		t.Errorf("%d dead letters", len(log.deadLetters()))
	}
}

// A stream without room takes the subject all the same: nothing becomes a dead
// letter for it, whatever the patience.
func TestMappedStreamFull(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	full := jetstream.StreamConfig{Name: "MINE", Subjects: []string{"out.*"}, MaxMsgs: 100, Discard: jetstream.DiscardNew}
	if _, err := js.CreateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	log := newMemLog()
	log.grow(100)
	_, said, _ := mappedWith(t, n.URL(), log, split{}, func(p *Publisher) { p.refused.patience = 0 }, "out.*")
	said.await(t, "maximum messages exceeded")
	full.MaxMsgs = -1
	if _, err := js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	log.await(t, 100)
	if got := len(bodies(t, n.URL(), "MINE")); got != 200 || len(log.deadLetters()) != 0 {
		t.Errorf("%d objects, %d dead letters", got, len(log.deadLetters()))
	}
}
