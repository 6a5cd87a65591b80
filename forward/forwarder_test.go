package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The server in process keeps a few goroutines of its own after it is stopped.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*OCSPMonitor).run"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.init.func1"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.startTicker.func1"))
}

func startNATS(t testing.TB, change ...func(*server.Options)) *embedded.NATS {
	t.Helper()
	n, err := embedded.StartNATS(t.TempDir(), change...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

func startProcess(t testing.TB) *servers.NATSProcess {
	t.Helper()
	n, err := servers.StartNATSProcess(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Kill(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// lines is a log output to wait on.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{}
}

func newLines() *lines { return &lines{news: make(chan struct{})} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.news)
	l.news = make(chan struct{})
	return l.text.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

// await waits for a line with s.
func (l *lines) await(t *testing.T, s string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		found, news := strings.Contains(l.text.String(), s), l.news
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-news:
		case <-deadline:
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Fatalf("no line with %q in 30 s:\n%s", s, l.text.String())
		}
	}
}

// longest is how many bytes the longest line has.
func (l *lines) longest() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		n = max(n, len(line))
	}
	return n
}

// running is a forwarder at work.
type running struct {
	*Forwarder
	log    *lines
	cancel context.CancelFunc
	err    chan error
}

// forward starts a forwarder of log to the server at url.
func forward(t testing.TB, url string, log Log, change ...func(*Config)) *running {
	t.Helper()
	r := &running{log: newLines(), err: make(chan error, 1)}
	cfg := Config{URL: url, Stream: "TELEMETRY", SubjectPrefix: "mqtt", LogID: testLogID, Key: testKey,
		Logger: slog.New(slog.NewTextHandler(r.log, nil))}
	for _, f := range change {
		f(&cfg)
	}
	f, err := New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	r.Forwarder = f
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	done := make(chan struct{})
	go func() {
		r.err <- f.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if t.Failed() {
			r.log.mu.Lock()
			t.Log("forwarder's log:\n" + r.log.text.String())
			r.log.mu.Unlock()
		}
	})
	return r
}

// stop ends the forwarder, which may take a second.
func (r *running) stop(t testing.TB) {
	t.Helper()
	r.cancel()
	select {
	case err := <-r.err:
		r.err <- err
		if err != nil {
			t.Fatalf("Run: %v", err)
		}
	case <-time.After(time.Second):
		t.Fatal("Run has not ended within a second")
	}
}

func admin(t testing.TB, url string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// contents reads the whole stream.
func contents(t testing.TB, url string) []jetstream.Msg {
	t.Helper()
	nc, js := admin(t, url)
	defer nc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		msgs, err := read(ctx, js)
		if err == nil {
			return msgs
		}
		// A cluster that has just lost a node has no leader for a moment.
		if !errors.Is(err, nats.ErrNoResponders) || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func read(ctx context.Context, js jetstream.JetStream) ([]jetstream.Msg, error) {
	s, err := js.Stream(ctx, "TELEMETRY")
	if err != nil {
		return nil, err
	}
	n := int(s.CachedInfo().State.Msgs)
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	msgs := make([]jetstream.Msg, 0, n)
	for len(msgs) < n {
		batch, err := c.Fetch(min(1000, n-len(msgs)), jetstream.FetchMaxWait(10*time.Second))
		if err != nil {
			return nil, err
		}
		for m := range batch.Messages() {
			msgs = append(msgs, m)
		}
		if batch.Error() != nil {
			return nil, batch.Error()
		}
	}
	return msgs, nil
}

// wantExactly fails unless the stream holds the records with these numbers,
// each once and in order.
func wantExactly(t testing.TB, url string, seqs ...span) {
	t.Helper()
	msgs := contents(t, url)
	i := 0
	for _, s := range seqs {
		for n := s.from; n <= s.to; n++ {
			if i == len(msgs) {
				t.Fatalf("the stream ends after %d messages, before record %d", i, n)
			}
			want := fmt.Sprintf("%s-%d", testLogID, n)
			if got := msgs[i].Headers().Get(natsmsg.HeaderMsgID); got != want {
				t.Fatalf("message %d of the stream is %s, want %s", i+1, got, want)
			}
			i++
		}
	}
	if i != len(msgs) {
		t.Fatalf("%d messages too many in the stream, the first is %s", len(msgs)-i, msgs[i].Headers().Get(natsmsg.HeaderMsgID))
	}
}

func TestForward20000(t *testing.T) {
	for name, start := range map[string]func() string{
		"in process": func() string { return startNATS(t).URL() },
		"process":    func() string { return startProcess(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			url := start()
			l := newMemLog()
			reg := prometheus.NewRegistry()
			m := NewMetrics(reg)
			l.grow(10000)
			r := forward(t, url, l, func(c *Config) { c.Metrics = m })
			for range 100 {
				l.grow(100)
			}
			l.await(t, 20000)
			wantExactly(t, url, span{1, 20000})
			for i, msg := range contents(t, url)[:200] {
				wantMessage(t, msg, i+1)
			}
			r.log.await(t, "acknowledged by 1 replica")
			if s := r.Stats(); !s.Connected || s.Cursor != 20000 || s.InFlight != 0 || s.LastError != nil {
				t.Errorf("Stats: %+v", s)
			}
			if n := count(t, m.forwarded); n != 20000 {
				t.Errorf("forwarded_messages_total %v, want 20000", n)
			}
			r.stop(t)
			if r.Stats().Connected {
				t.Error("connected after the end")
			}
		})
	}
}

func wantMessage(t *testing.T, msg jetstream.Msg, n int) {
	t.Helper()
	rec := record(n)
	if got := msg.Data(); !bytes.Equal(got, rec.Payload) {
		t.Errorf("record %d: payload %q, want %q", n, got, rec.Payload)
	}
	topic, err := natsmsg.Topic("mqtt", msg.Subject())
	if err != nil || !bytes.Equal(topic, rec.Topic) {
		t.Errorf("record %d: topic %q (%v), want %q", n, topic, err, rec.Topic)
	}
	h := msg.Headers()
	when, err := natsmsg.ParseTime(h.Get(natsmsg.HeaderTime))
	if err != nil || when.UnixNano() != rec.Time || h.Get(natsmsg.HeaderSource) != "plant" || h.Get(natsmsg.HeaderQoS) != "1" || h.Get(natsmsg.HeaderRetain) != "" {
		t.Errorf("record %d: headers %v", n, h)
	}
}

func TestLowRateIsAcknowledgedAtOnce(t *testing.T) {
	n := startNATS(t)
	l := newMemLog()
	forward(t, n.URL(), l)
	begin := time.Now()
	for i := range 20 {
		l.grow(1)
		l.await(t, mqttetl.Seq(i+1))
	}
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("20 single records took %v", d)
	}
}

func TestServerKilledInMidStream(t *testing.T) {
	n := startProcess(t)
	l := newMemLog()
	r := forward(t, n.URL(), l)
	for i := range 5 {
		l.grow(4000)
		l.await(t, mqttetl.Seq(4000*i+1))
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := n.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	l.await(t, 20000)
	wantExactly(t, n.URL(), span{1, 20000})
	if len(l.deadLetters()) != 0 {
		t.Errorf("dead letters: %v", l.deadLetters())
	}
	r.stop(t)
}

func TestServerDownAtStart(t *testing.T) {
	n := startProcess(t)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	l := newMemLog()
	l.grow(10)
	r := forward(t, n.URL(), l)
	r.log.await(t, "trying again")
	for count(t, r.metrics.errors) < 4 {
		waitTick(t)
	}
	if c := r.log.count("trying again"); c != 1 {
		t.Errorf("said %d times that it tries again, want once", c)
	}
	if s := r.Stats(); s.Connected || s.LastError == nil {
		t.Errorf("Stats with the server down: %+v", s)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	l.await(t, 10)
	r.log.await(t, "forwarding to NATS again")
	wantExactly(t, n.URL(), span{1, 10})
}

// count is the value of a counter.
func count(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// waitTick waits for a moment between two looks at a condition.
func waitTick(t *testing.T) {
	t.Helper()
	select {
	case <-time.After(5 * time.Millisecond):
	case <-t.Context().Done():
		t.Fatal("the test has ended")
	}
}

func TestStopWhileServerIsAway(t *testing.T) {
	l := newMemLog()
	l.grow(1)
	r := forward(t, "nats://127.0.0.1:1", l)
	r.log.await(t, "trying again")
	r.stop(t)
}

func TestRestartResumesBehindTheStream(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	// A window this short cannot hide a record that is sent again.
	createStream(t, js, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond })
	l := newMemLog()
	for i := range 5 {
		l.grow(500)
		r := forward(t, n.URL(), l)
		l.await(t, mqttetl.Seq(500*i+200))
		r.stop(t)
		l.mu.Lock()
		l.stored = 0 // the position in the log is lost
		l.mu.Unlock()
	}
	forward(t, n.URL(), l)
	l.await(t, 2500)
	wantExactly(t, n.URL(), span{1, 2500})
}

func createStream(t testing.TB, js jetstream.JetStream, change func(*jetstream.StreamConfig)) jetstream.Stream {
	t.Helper()
	sc := jetstream.StreamConfig{Name: "TELEMETRY", Subjects: []string{"mqtt.>"}}
	change(&sc)
	s, err := js.CreateOrUpdateStream(t.Context(), sc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStreamAhead(t *testing.T) {
	n := startNATS(t)
	l := newMemLog()
	l.grow(10)
	r := forward(t, n.URL(), l)
	l.await(t, 10)
	r.stop(t)

	older := newMemLog() // the log, put back to an older copy
	older.grow(5)
	r = forward(t, n.URL(), older)
	r.log.await(t, "stream TELEMETRY holds record 10")
	wantUnusable(t, r, "stream TELEMETRY holds record 10")
	if err := r.Stats().LastError; !errors.Is(err, mqttetl.ErrForeign) || mqttetl.Hint(err) == "" {
		t.Errorf("%v (hint %q), want ErrForeign with a hint", err, mqttetl.Hint(err))
	}
	r.stop(t) // it goes on trying
	wantExactly(t, n.URL(), span{1, 10})
}

func TestStreamBehind(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	l := newMemLog()
	l.grow(100)
	r := forward(t, n.URL(), l)
	l.await(t, 100)
	r.stop(t)

	// A restored server: it has confirmed 100 and holds 60.
	if err := js.DeleteStream(t.Context(), "TELEMETRY"); err != nil {
		t.Fatal(err)
	}
	half := newMemLog()
	half.grow(60)
	r = forward(t, n.URL(), half)
	half.await(t, 60)
	r.stop(t)

	r = forward(t, n.URL(), l)
	r.log.await(t, "lost messages that were confirmed")
	l.await(t, 100)
	wantExactly(t, n.URL(), span{1, 100})
	r.log.await(t, "from=61 to=100")
}

func TestStreamBehindATrimmedLog(t *testing.T) {
	n := startNATS(t)
	half := newMemLog()
	half.grow(60)
	r := forward(t, n.URL(), half)
	half.await(t, 60)
	r.stop(t)

	l := newMemLog()
	l.first, l.stored = 81, 90
	l.grow(20)
	r = forward(t, n.URL(), l)
	l.await(t, 100)
	wantExactly(t, n.URL(), span{1, 60}, span{81, 100})
	r.log.await(t, "from=61 to=80")
}

func TestForeignLastMessage(t *testing.T) {
	n := startNATS(t)
	nc, _ := admin(t, n.URL())
	l := newMemLog()
	l.grow(10)
	r := forward(t, n.URL(), l)
	l.await(t, 10)
	r.stop(t)
	other := func(count int) {
		for range count {
			if _, err := nc.Request("mqtt.other", []byte("x"), 5*time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
	tail := func(from int) {
		t.Helper()
		for i, m := range contents(t, n.URL())[from:] {
			if want := fmt.Sprintf("%s-%d", testLogID, l.stored-9+mqttetl.Seq(i)); m.Headers().Get(natsmsg.HeaderMsgID) != want {
				t.Fatalf("message %d: %v, want %s", from+i, m.Headers(), want)
			}
		}
	}
	// A few messages of others: ours is found before them.
	other(3)
	l.stored = 0
	l.grow(10)
	r = forward(t, n.URL(), l)
	l.await(t, 20)
	tail(13)
	r.stop(t)
	// More than it looks through: the stored position counts.
	for range lookBack + 1 {
		if err := nc.Publish("mqtt.other", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	other(1)
	l.grow(10)
	r = forward(t, n.URL(), l)
	l.await(t, 30)
	tail(23 + lookBack + 2)
	r.log.await(t, "not of this log")
}

func TestOtherWriterInMidStream(t *testing.T) {
	t.Run("in process", func(t *testing.T) { testOtherWriter(t, startNATS(t).URL()) })
	t.Run("process", func(t *testing.T) { testOtherWriter(t, startProcess(t).URL()) })
}

func testOtherWriter(t *testing.T, url string) {
	nc, _ := admin(t, url)
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
	want := 1
	for _, m := range contents(t, url) {
		if m.Subject() == "mqtt.other" {
			continue
		}
		if got := m.Headers().Get(natsmsg.HeaderMsgID); got != fmt.Sprintf("%s-%d", testLogID, want) {
			t.Fatalf("got %s, want record %d", got, want)
		}
		want++
	}
	if want != 6001 {
		t.Errorf("%d records in the stream, want 6000", want-1)
	}
}

func TestDeletedEndOfStream(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	l := newMemLog()
	l.grow(10)
	r := forward(t, n.URL(), l)
	l.await(t, 10)
	r.stop(t)
	s, err := js.Stream(t.Context(), "TELEMETRY")
	if err != nil {
		t.Fatal(err)
	}
	// The server still knows the ids and answers "duplicate".
	for i := uint64(9); i <= 10; i++ {
		if err := s.DeleteMsg(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	l.grow(5)
	forward(t, n.URL(), l)
	l.await(t, 15)
	wantExactly(t, n.URL(), span{1, 8}, span{11, 15})
}

func TestStreamDeletedWhileRunning(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	l := newMemLog()
	l.grow(100)
	r := forward(t, n.URL(), l)
	l.await(t, 100)
	if err := js.DeleteStream(t.Context(), "TELEMETRY"); err != nil {
		t.Fatal(err)
	}
	l.grow(100)
	l.await(t, 200)
	wantExactly(t, n.URL(), span{101, 200})
	if c := r.log.count("stream created"); c != 2 {
		t.Errorf("created %d times, want 2", c)
	}
}

func TestStreamWithOtherSubjects(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	createStream(t, js, func(c *jetstream.StreamConfig) { c.Subjects = []string{"other.>"} })
	l := newMemLog()
	l.grow(3)
	r := forward(t, n.URL(), l)
	r.log.await(t, "nats stream edit TELEMETRY --subjects 'other.>,mqtt.>'")
	wantUnusable(t, r, "do not cover mqtt.>")
	createStream(t, js, func(c *jetstream.StreamConfig) { c.Subjects = []string{"other.>", "mqtt.>"} })
	l.await(t, 3)
	wantExactly(t, n.URL(), span{1, 3})
}

// wantUnusable holds that a server that answers does not count as connected
// while its stream cannot be used.
func wantUnusable(t *testing.T, r *running, why string) {
	t.Helper()
	for failures := count(t, r.metrics.errors); count(t, r.metrics.errors) < failures+3; waitTick(t) {
		if s := r.Stats(); s.Connected || s.LastError == nil || !strings.Contains(s.LastError.Error(), why) {
			t.Fatalf("Stats %+v, want not connected for %q", s, why)
		}
	}
}

// Another stream takes the subjects: ours can never be created.
func TestSubjectsOfAnotherStream(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	createStream(t, js, func(c *jetstream.StreamConfig) { c.Name, c.Subjects = "OTHER", []string{"mqtt.a.>"} })
	l := newMemLog()
	l.grow(3)
	r := forward(t, n.URL(), l)
	r.log.await(t, "another stream takes subjects of mqtt.>: name that one as nats.stream")
	wantUnusable(t, r, "JetStream refused: subjects overlap with an existing stream (10065)")
	if err := js.DeleteStream(t.Context(), "OTHER"); err != nil {
		t.Fatal(err)
	}
	l.await(t, 3)
	if s := r.Stats(); !s.Connected || s.LastError != nil {
		t.Errorf("Stats of a stream in use: %+v", s)
	}
}

// With nothing to send, an outage that is over must not be told any more.
func TestOutageIsForgottenOnceTheStreamIsFound(t *testing.T) {
	n := startProcess(t)
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	r := forward(t, n.URL(), newMemLog())
	r.log.await(t, "trying again")
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	r.log.await(t, "the stream is empty: forwarding after the stored position")
	r.log.await(t, "forwarding to NATS again")
	for !r.Stats().Connected {
		waitTick(t)
	}
	if s := r.Stats(); s.LastError != nil {
		t.Errorf("Stats %+v", s)
	}
}

func TestMemoryStreamIsAWarning(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	createStream(t, js, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage })
	r := forward(t, n.URL(), newMemLog())
	r.log.await(t, "level=WARN msg=\"stream TELEMETRY: acknowledged by 1 replica(s) in memory")
}

func TestStreamFullThenRoom(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	s := createStream(t, js, func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardNew, 64<<10 })
	l := newMemLog()
	// Sizes differ, so that behind one that finds no room a smaller one would.
	for i := range 200 {
		rec := record(i + 1)
		rec.Payload = bytes.Repeat([]byte("x"), 1+1700*(i%2))
		l.add(rec)
	}
	r := forward(t, n.URL(), l)
	r.log.await(t, "maximum bytes exceeded")
	for r.Stats().Connected { // a stream that takes nothing for long is not ready
		waitTick(t)
	}
	// Take out what is there until all have come through. The first messages of the records
	// come in order; one that was taken out before it was confirmed comes again.
	var got mqttetl.Seq
	last := uint64(0)
	for done := false; !done; {
		cursor := r.Stats().Cursor
		done = cursor == 200
		for _, m := range contents(t, n.URL()) {
			seq, ok := natsmsg.ParseMsgID(m.Headers().Get(natsmsg.HeaderMsgID), testLogID)
			if !ok || seq > got+1 {
				t.Fatalf("after record %d of the stream: %v", got, m.Headers())
			}
			got = max(got, seq)
			meta, err := m.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			last = meta.Sequence.Stream
		}
		if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(last+1)); err != nil {
			t.Fatal(err)
		}
		for !done && r.Stats().Cursor == cursor {
			waitTick(t)
		}
	}
	if got != 200 {
		t.Errorf("%d records came through, want 200", got)
	}
	if s := r.Stats(); !s.Connected || s.LastError != nil {
		t.Errorf("Stats with room again: %+v", s)
	}
	if len(l.deadLetters()) != 0 {
		t.Errorf("dead letters: %v", l.deadLetters())
	}
}

func TestDeadLetters(t *testing.T) {
	big := record(0)
	big.Payload = bytes.Repeat([]byte{0xff, 0}, 5<<19) // 5 MiB
	medium := record(0)
	medium.Payload = big.Payload[:2000]
	props := record(0)
	for i := range 1000 {
		props.Properties = appendUser(props.Properties, fmt.Sprintf("name-%d", i), strings.Repeat("v", 100))
	}
	topic := record(0)
	topic.Topic = bytes.Repeat([]byte("t"), 65535)
	cases := map[string]struct {
		rec    mqttetl.Record
		server func(*server.Options)
		stream func(*jetstream.StreamConfig)
		reason string
	}{
		"max_payload":       {rec: big, reason: "max_payload of 1048576"},
		"small max_payload": {rec: medium, server: func(o *server.Options) { o.MaxPayload = 2000 }, reason: "max_payload of 2000"},
		"max_msg_size":      {rec: big, server: func(o *server.Options) { o.MaxPayload = 8 << 20 }, stream: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 20 }, reason: "max_msg_size of 1048576"},
		"max_bytes":         {rec: big, server: func(o *server.Options) { o.MaxPayload = 8 << 20 }, stream: func(c *jetstream.StreamConfig) { c.MaxBytes = 2 << 20 }, reason: "max_bytes of 2097152"},
		"1,000 properties":  {rec: props, reason: "headers of"},
		"one a subject only": {rec: record(1), stream: func(c *jetstream.StreamConfig) {
			c.Discard, c.MaxMsgsPerSubject, c.DiscardNewPerSubject = jetstream.DiscardNew, 1, true
		}, reason: "maximum messages per subject"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var options []func(*server.Options)
			if c.server != nil {
				options = append(options, c.server)
			}
			n := startNATS(t, options...)
			_, js := admin(t, n.URL())
			if c.stream != nil {
				createStream(t, js, c.stream)
			}
			small := func(n int) mqttetl.Record {
				r := record(n)
				r.Topic, r.Payload, r.Source, r.Flags = fmt.Appendf(nil, "t%d", n), nil, "", 0
				return r
			}
			l := newMemLog()
			if name == "one a subject only" {
				l.add(c.rec)
			} else {
				l.add(small(1))
			}
			l.add(small(2), c.rec, small(4))
			l.add(c.rec, c.rec) // at the end, where the stream does not tell of them
			r := forward(t, n.URL(), l)
			l.await(t, 6)
			l.add(small(7))
			l.await(t, 7)
			var seqs []mqttetl.Seq
			for _, d := range l.deadLetters() {
				seqs = append(seqs, d.Seq)
				if d.Stage != "forward" || !strings.Contains(d.Reason, c.reason) {
					t.Errorf("dead letter %+v, want the reason %q", d, c.reason)
				}
			}
			if fmt.Sprint(seqs) != "[3 5 6]" {
				t.Errorf("dead letters %v, want 3 5 6", seqs)
			}
			wantExactly(t, n.URL(), span{1, 2}, span{4, 4}, span{7, 7})
			if n := count(t, r.metrics.deadLetters); n != 3 {
				t.Errorf("dead_letters_total %v, want 3", n)
			}
		})
	}
}

// Dead letters between messages that are still in flight: each is kept only
// when all before it is confirmed (memLog panics otherwise).
func TestDeadLettersInBetween(t *testing.T) {
	n := startNATS(t)
	_, js := admin(t, n.URL())
	createStream(t, js, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 })
	l := newMemLog()
	var want []span
	for i := range 900 {
		rec := record(i + 1)
		if i%3 == 2 {
			rec.Payload = make([]byte, 1000)
			want = append(want, span{mqttetl.Seq(i - 1), mqttetl.Seq(i)})
		}
		l.add(rec)
	}
	forward(t, n.URL(), l)
	l.await(t, 900)
	wantExactly(t, n.URL(), want...)
	if d := l.deadLetters(); len(d) != 300 {
		t.Errorf("%d dead letters, want 300", len(d))
	}
}

// A dead letter at the end of the log is not made again by a restart.
func TestDeadLetterOnce(t *testing.T) {
	n := startNATS(t)
	l := newMemLog()
	l.grow(2)
	big := record(3)
	big.Payload = make([]byte, 2<<20)
	l.add(big)
	for range 3 {
		r := forward(t, n.URL(), l)
		l.await(t, 3)
		r.log.await(t, "cannot be forwarded")
		for r.Stats().Cursor < 3 {
			waitTick(t)
		}
		r.stop(t)
	}
	if d := l.deadLetters(); len(d) != 1 {
		t.Errorf("dead letters: %v, want one", d)
	}
	wantExactly(t, n.URL(), span{1, 2})
}

func TestStrangeMessages(t *testing.T) {
	recs := []mqttetl.Record{record(1), record(2), record(3), record(4), record(5)}
	recs[0].Topic = bytes.Repeat([]byte("/level"), 60000/6)
	recs[1].Topic = []byte("//a b/\xff\x00*>%/é\uFFFD/")
	recs[2].Payload = nil
	recs[3].Payload = []byte("\x00\xff\r\n+OK\r\nMSG x 1 0\r\n")
	recs[3].Topic = nil
	for i := range 1000 {
		recs[4].Properties = appendUser(recs[4].Properties, fmt.Sprintf("n%d", i%10), fmt.Sprint(i))
	}
	recs[4].Properties = appendUser(recs[4].Properties, "Nats-Msg-Id", "Nats-Msg-Id: 1\r\nNats-Rollup: all\r\n\x00 ")
	recs[4].Properties = appendUser(recs[4].Properties, "", "é: 50%\xff")
	for name, url := range map[string]string{"in process": startNATS(t).URL(), "process": startProcess(t).URL()} {
		t.Run(name, func(t *testing.T) {
			l := newMemLog()
			l.add(recs...)
			l.grow(100)
			forward(t, url, l)
			l.await(t, 105)
			wantExactly(t, url, span{1, 105})
			for i, m := range contents(t, url)[:len(recs)] {
				topic, err := natsmsg.Topic("mqtt", m.Subject())
				if errors.Is(err, natsmsg.ErrShortened) {
					topic, err = natsmsg.UnescapeHeader(m.Headers().Get(natsmsg.HeaderTopic))
				}
				if err != nil || !bytes.Equal(topic, recs[i].Topic) {
					t.Errorf("record %d: topic %.60q (%v), want %.60q", i+1, topic, err, recs[i].Topic)
				}
				if !bytes.Equal(m.Data(), recs[i].Payload) {
					t.Errorf("record %d: payload %q, want %q", i+1, m.Data(), recs[i].Payload)
				}
				wantUsers(t, m.Headers(), recs[i].Properties)
			}
		})
	}
}

func TestRunEndsWhenTheLogCannotBeRead(t *testing.T) {
	n := startNATS(t)
	r := forward(t, n.URL(), brokenLog{newMemLog()})
	select {
	case err := <-r.err:
		r.err <- err
		if !errors.Is(err, mqttetl.ErrDamaged) {
			t.Errorf("Run: %v, want ErrDamaged", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run goes on with a damaged log")
	}
}

type brokenLog struct{ *memLog }

func (brokenLog) Next(context.Context, int) ([]mqttetl.Record, error) {
	return nil, fmt.Errorf("segment 7: %w", mqttetl.ErrDamaged)
}
