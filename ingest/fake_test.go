package ingest

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mqttetl/mqttetl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %s in vain: %s", patience, what)
		case <-again.C:
		}
	}
}

// fakeLog is a Log in memory whose commits can be held and failed.
type fakeLog struct {
	mu      sync.Mutex
	wake    *sync.Cond
	queue   []*mqttetl.Batch
	held    bool
	closed  bool
	fail    error
	next    mqttetl.Seq
	records []mqttetl.Record
	ids     map[string][]uint16
	notes   map[string][]byte
	loads   int // calls of PacketIDs
	ended   chan struct{}
}

func newFakeLog(t testing.TB) *fakeLog {
	l := &fakeLog{next: 1, ids: map[string][]uint16{}, notes: map[string][]byte{}, ended: make(chan struct{})}
	l.wake = sync.NewCond(&l.mu)
	go l.commits()
	t.Cleanup(func() {
		l.mu.Lock()
		l.closed, l.held = true, false
		l.mu.Unlock()
		l.wake.Broadcast()
		<-l.ended
	})
	return l
}

func (l *fakeLog) Append(b *mqttetl.Batch) {
	l.mu.Lock()
	l.queue = append(l.queue, b)
	l.mu.Unlock()
	l.wake.Broadcast()
}

func (l *fakeLog) Hurry() {}

func (l *fakeLog) PacketIDs(session string) ([]uint16, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loads++
	return slices.Clone(l.ids[session]), nil
}

func (l *fakeLog) Note(name string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.notes[name], nil
}

// commits is the goroutine that commits.
func (l *fakeLog) commits() {
	defer close(l.ended)
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for !l.closed && (l.held || len(l.queue) == 0) {
			l.wake.Wait()
		}
		if len(l.queue) == 0 {
			return
		}
		b := l.queue[0]
		l.queue = l.queue[1:]
		first, err := l.commit(b)
		done := b.Done
		l.mu.Unlock()
		done(first, err)
		l.mu.Lock()
	}
}

func (l *fakeLog) commit(b *mqttetl.Batch) (mqttetl.Seq, error) {
	if l.fail != nil {
		return 0, l.fail
	}
	for _, c := range b.IDs {
		ids := slices.DeleteFunc(l.ids[b.Session], func(id uint16) bool { return c.Op == mqttetl.IDsCleared || id == c.ID })
		if c.Op == mqttetl.IDAdded {
			ids = append(ids, c.ID)
		}
		l.ids[b.Session] = ids
	}
	if b.Note.Name != "" {
		l.notes[b.Note.Name] = bytes.Clone(b.Note.Value)
	}
	if b.Len() == 0 {
		return 0, nil
	}
	records, err := mqttetl.DecodeRecords(nil, bytes.Clone(b.Bytes()), b.Len(), l.next, b.Source)
	if err != nil {
		panic(err)
	}
	first := l.next
	l.next += mqttetl.Seq(len(records))
	l.records = append(l.records, records...)
	return first, nil
}

func (l *fakeLog) hold(held bool) {
	l.mu.Lock()
	l.held = held
	l.mu.Unlock()
	l.wake.Broadcast()
}

func (l *fakeLog) failWith(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

func (l *fakeLog) all() []mqttetl.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.records)
}

// pending are the bytes and batches handed over and not committed.
func (l *fakeLog) pending() (bytes, batches int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.queue {
		bytes += b.Size()
	}
	return bytes, len(l.queue)
}

func (l *fakeLog) known(session string) []uint16 {
	ids, _ := l.PacketIDs(session)
	return ids
}

// logLines is a slog target that tests search.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// quickPace makes retries quick.
var quickPace = pace{
	first: 5 * time.Millisecond, most: 50 * time.Millisecond,
	slow: 20 * time.Millisecond, slowest: 100 * time.Millisecond,
	stable: time.Hour,
	answer: patience, answerMost: patience, suback: patience,
}

// newSource is New with a quick pace.
func newSource(t testing.TB, cfg Config, log Log) *Source {
	t.Helper()
	s, err := New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range s.links {
		l.pace = quickPace
	}
	return s
}

// start runs s until stop is called or the test ends.
func start(t testing.TB, s *Source) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			t.Error("Run does not end")
			return nil
		}
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}
