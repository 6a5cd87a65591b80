package batch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/store"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		archiveUntilKilled(dir)
		return
	}
	if len(os.Args) > 1 && os.Args[1] == transform.WorkCommand {
		if err := transform.Work(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const logID = "0123456789abcdef"

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func shell(tb testing.TB, path, query string) string {
	tb.Helper()
	out, err := exec.Command("sqlite3", "-cmd", ".timeout 5000", path, query).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		tb.Fatal("sqlite3 is missing: apt-get install sqlite3")
	}
	if err != nil {
		tb.Fatalf("sqlite3 %q: %v\n%s", query, err, out)
	}
	return strings.TrimSpace(string(out))
}

// fileAt opens an archive of the log that the tests have.
func fileAt(path string) func(store.Options) (Archive, error) {
	return func(o store.Options) (Archive, error) { return archive.OpenWith(path, logID, o) }
}

// running is a Batcher at work and what it logs.
type running struct {
	*Batcher
	tb     testing.TB
	cancel context.CancelFunc
	ended  chan error
	lines  *logLines
	reg    *prometheus.Registry
}

func start(tb testing.TB, path string, log Log) *running {
	reg := prometheus.NewRegistry()
	lines := newLogLines()
	b := New(Config{Name: "a.db", Open: fileAt(path), Count: 1000, Period: 5 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(lines, nil)), Metrics: NewMetrics(reg)}, log)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{b, tb, cancel, make(chan error, 1), lines, reg}
	go func() { r.ended <- b.Run(ctx) }()
	tb.Cleanup(cancel)
	return r
}

// stop ends Run, which must be nil, within the second that the program has.
func (r *running) stop() {
	r.tb.Helper()
	r.cancel()
	select {
	case err := <-r.ended:
		must(r.tb, err)
	case <-time.After(time.Second):
		r.tb.Fatal("Run does not end")
	}
}

// result is the error with which Run ends by itself.
func (r *running) result() error {
	r.tb.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(10 * time.Second):
		r.tb.Fatalf("Run does not end; log:\n%s", r.lines)
		return nil
	}
}

// count is the value of a counter.
func (r *running) count(name string) float64 {
	r.tb.Helper()
	families, err := r.reg.Gather()
	must(r.tb, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	r.tb.Fatalf("no metric %s", name)
	return 0
}

// logLines collects what is logged and lets a test wait for it.
type logLines struct {
	mu      sync.Mutex
	text    strings.Builder
	changed *sync.Cond
}

func newLogLines() *logLines {
	l := &logLines{}
	l.changed = sync.NewCond(&l.mu)
	return l
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.changed.Broadcast()
	return l.text.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until a line holds all of the words.
func (l *logLines) await(tb testing.TB, words ...string) {
	tb.Helper()
	expired := false
	t := time.AfterFunc(20*time.Second, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		expired = true
		l.changed.Broadcast()
	})
	defer t.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !holds(l.text.String(), words) {
		if expired {
			tb.Fatalf("no line with %q in\n%s", words, l.text.String())
		}
		l.changed.Wait()
	}
}

func holds(text string, words []string) bool {
	for line := range strings.Lines(text) {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}

// exact checks that the rows are first..last, each once, byte for byte.
func exact(tb testing.TB, path string, first, last mqttetl.Seq) {
	tb.Helper()
	got := shell(tb, path, "SELECT min(seq), max(seq), count(*) FROM msg; "+notExact)
	if want := fmt.Sprintf("%d|%d|%d\n0", first, last, last-first+1); got != want {
		tb.Fatalf("rows %q, want %q", got, want)
	}
	report, err := archive.Verify(context.Background(), path, true)
	must(tb, err)
	if len(report.Problems) > 0 || report.Cursor != last {
		tb.Fatalf("verify: %+v, want cursor %d", report, last)
	}
}

func TestArchivesEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "a.db")
	log := newMemoryLog()
	log.add(12_345)
	b := start(t, path, log)
	log.archived(t)
	log.add(1)
	log.archived(t)
	exact(t, path, 1, 12_346)
	if s := b.Stats(); !s.Open || s.Cursor != 12_346 || s.Error != "" || !s.OldestPending.IsZero() {
		t.Errorf("stats %+v", s)
	}
	if n := b.count("mqttetl_archived_messages_total"); n != 12_346 {
		t.Errorf("archived_messages_total is %v", n)
	}
	b.stop()
	if b.Stats().Open {
		t.Error("stats say open after the end")
	}
	b.lines.await(t, "archive is new", "from_seq=1")

	log.add(10)
	b = start(t, path, log)
	log.archived(t)
	b.stop()
	exact(t, path, 1, 12_356)
}

// The period counts from the first row; what waits is committed at its end or
// when Run ends, and the count comes before the period.
func TestPeriodAndCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newMemoryLog()
		b := New(Config{Name: "a.db", Open: fileAt(filepath.Join(t.TempDir(), "a.db")), Count: 10, Period: 250 * time.Millisecond}, log)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()
		cursorAfter := func(d time.Duration, want mqttetl.Seq) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if c := b.Stats().Cursor; c != want {
				t.Fatalf("cursor %d, want %d", c, want)
			}
		}
		cursorAfter(3*time.Second, 0)
		log.add(1)
		cursorAfter(100*time.Millisecond, 0)
		if b.Stats().OldestPending.IsZero() {
			t.Error("no oldest pending record in an open transaction")
		}
		log.add(1)
		cursorAfter(149*time.Millisecond, 0)
		cursorAfter(2*time.Millisecond, 2)
		log.add(10)
		cursorAfter(0, 12)
		log.add(3)
		cursorAfter(0, 12)
		cancel()
		must(t, <-ended)
		cursorAfter(0, 15)
	})
}

func TestBytesBound(t *testing.T) {
	log := newMemoryLog()
	log.update(func() {
		for range 8 {
			r := recordOf(log.last() + 1)
			r.Payload = make([]byte, 5<<20)
			log.records = append(log.records, r)
		}
		log.keep = true
	})
	single := &oneByOne{log}
	b := New(Config{Name: "a.db", Open: fileAt(filepath.Join(t.TempDir(), "a.db")), Period: time.Hour}, single)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	wait, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	// 8 of 5 MiB: two transactions of four, within an hour.
	must(t, log.await(wait, func() bool { return log.upTo == 8 }))
	cancel()
	must(t, <-ended)
}

// oneByOne returns one record a call.
type oneByOne struct{ *memoryLog }

func (l *oneByOne) Next(ctx context.Context, _ int) ([]mqttetl.Record, error) {
	return l.memoryLog.Next(ctx, 1)
}

func TestTrimmedLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	log.add(100)
	log.update(func() { log.trim(89) })
	b := start(t, path, log)
	log.archived(t)
	b.lines.await(t, "level=WARN", "archive is new", "from_seq=90", "missing_up_to=89")
	b.stop()
	exact(t, path, 90, 100)

	log.add(50)
	log.update(func() { log.trim(120) })
	b = start(t, path, log)
	log.archived(t)
	b.lines.await(t, "level=WARN", "archive has a gap", "from_seq=121", "missing_from=101")
	b.stop()
	if got := shell(t, path, "SELECT first||'-'||last FROM gaps"); got != "1-89\n101-120" {
		t.Errorf("gaps %q", got)
	}
}

func TestEndsForGood(t *testing.T) {
	broken := errors.New("segment is broken")
	cases := []struct {
		name  string
		setUp func(tb testing.TB, path string, log *memoryLog)
		want  error
		says  string
	}{
		{"other log", func(tb testing.TB, path string, _ *memoryLog) {
			a, err := archive.Open(path, "ffffffffffffffff")
			must(tb, err)
			must(tb, a.Close())
		}, mqttetl.ErrForeign, "filled from log ffff"},
		{"archive ahead of the log", func(tb testing.TB, path string, log *memoryLog) {
			full := newMemoryLog()
			full.add(50)
			b := start(tb, path, full)
			full.archived(tb)
			b.stop()
			log.add(20)
		}, mqttetl.ErrForeign, "ahead of the log"},
		{"newer version", func(tb testing.TB, path string, _ *memoryLog) {
			a, err := archive.Open(path, logID)
			must(tb, err)
			must(tb, a.Close())
			shell(tb, path, "PRAGMA user_version=2")
		}, store.ErrVersion, "schema version 2"},
		{"log broken", func(_ testing.TB, _ string, log *memoryLog) {
			log.update(func() { log.failNext = broken })
		}, broken, "segment"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			log := newMemoryLog()
			c.setUp(t, path, log)
			b := start(t, path, log)
			if err := b.result(); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Run: %v, want %v with %q", err, c.want, c.says)
			}
		})
	}
}

// lock has another process hold the write lock until release.
func lock(tb testing.TB, path string) (release func()) {
	tb.Helper()
	c := exec.Command("sqlite3", "-batch", path)
	in, err := c.StdinPipe()
	must(tb, err)
	out, err := c.StdoutPipe()
	must(tb, err)
	must(tb, c.Start())
	_, err = io.WriteString(in, ".timeout 5000\nBEGIN EXCLUSIVE;\nSELECT 'locked';\n")
	must(tb, err)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		tb.Fatalf("sqlite3 does not lock the file: %q %v", line, err)
	}
	return func() {
		must(tb, in.Close())
		must(tb, c.Wait())
	}
}

// Each outage begins while the batcher works, is said once, shows in Stats,
// and is over by itself; nothing is lost and nothing comes twice.
func TestOutages(t *testing.T) {
	cases := []struct {
		name  string
		begin func(tb testing.TB, path string) (end func())
		says  string
	}{
		{"locked by another program", lock, "SQLITE_BUSY"},
		{"directory moved away", func(tb testing.TB, path string) func() {
			dir := filepath.Dir(path)
			must(tb, os.Rename(dir, dir+".away"))
			must(tb, os.WriteFile(dir, nil, 0o640)) // or the batcher would make it again
			return func() {
				must(tb, os.Remove(dir))
				must(tb, os.Rename(dir+".away", dir))
			}
		}, "deleted or replaced"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x", "a.db")
			log := newMemoryLog()
			log.add(100)
			b := start(t, path, log)
			log.archived(t)
			end := c.begin(t, path)
			log.add(5000)
			b.lines.await(t, "level=WARN", "archive unavailable", c.says)
			if s := b.Stats(); s.Open || s.Error == "" || s.Since.IsZero() {
				t.Errorf("stats %+v", s)
			}
			end()
			log.archived(t)
			b.lines.await(t, "level=INFO", "archive available again", "pending=")
			if s := b.Stats(); !s.Open || s.Error != "" {
				t.Errorf("stats %+v", s)
			}
			b.stop()
			exact(t, path, 1, 5100)
			if n := strings.Count(b.lines.String(), "archive unavailable"); n != 1 {
				t.Errorf("said %d times:\n%s", n, b.lines)
			}
			if b.count("mqttetl_consumer_errors_total") == 0 {
				t.Error("consumer_errors_total is 0")
			}
		})
	}
}

// A damaged archive is said as an error and tried again: it holds up nothing
// else, and the batcher goes on when it has been moved away.
func TestDamagedArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	must(t, os.WriteFile(path, []byte(strings.Repeat("garbage", 1000)), 0o640))
	log := newMemoryLog()
	log.add(100)
	b := start(t, path, log)
	b.lines.await(t, "level=ERROR", "archive unavailable", "not a database", "move the file away")
	if s := b.Stats(); s.Open || s.Error == "" {
		t.Errorf("stats %+v", s)
	}
	must(t, os.Rename(path, path+".damaged"))
	log.archived(t)
	b.stop()
	exact(t, path, 1, 100)
}

func TestArchiveDeletedWhileRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	log.add(100)
	b := start(t, path, log)
	log.archived(t)
	must(t, os.Remove(path))
	log.add(50)
	b.lines.await(t, "level=WARN", "archive is new", "from_seq=101")
	if n := b.count("mqttetl_missing_messages_total"); n != 100 {
		t.Errorf("missing_messages_total is %v, want 100", n)
	}
	log.archived(t)
	b.stop()
	exact(t, path, 101, 150)
}

// That the archive is new is news once, not after each failure of its first commit.
func TestNewIsNewsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	b := start(t, path, log)
	b.lines.await(t, "archive is new")
	release := lock(t, path)
	log.add(1)
	b.lines.await(t, "level=WARN", "archive unavailable")
	release()
	log.archived(t)
	b.stop()
	if n := strings.Count(b.lines.String(), "archive is new"); n != 1 {
		t.Errorf("said %d times:\n%s", n, b.lines.String())
	}
}

// A disk with too little room: a small file system of its own where one may be
// mounted, a limit of the file size otherwise.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	room := limitDisk(t, dir)
	path := filepath.Join(dir, "a.db")
	log := newMemoryLog()
	log.add(100)
	b := start(t, path, log)
	log.archived(t)
	log.add(60_000) // 3 MB
	b.lines.await(t, "level=WARN", "archive unavailable")
	room()
	log.archived(t)
	b.lines.await(t, "archive available again")
	b.stop()
	exact(t, path, 1, 60_100)
}

// limitDisk leaves room for 2 MB in dir until the returned function is called.
func limitDisk(t *testing.T, dir string) (room func()) {
	err := syscall.Mount("none", dir, "tmpfs", 0, "size=2m")
	if err == nil {
		t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
		return func() { must(t, syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size=100m")) }
	}
	t.Logf("no tmpfs (%v): the file size is limited instead", err)
	return limitFileSize(t, 1<<20)
}

func TestDeadLettersMoveOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	letters := []mqttetl.DeadLetter{{Seq: 3, Stage: "forward", Reason: "too large", Time: 1}, {Seq: 4, Stage: "forward", Reason: "too large", Time: 2}}
	log.update(func() { log.letters, log.forgets = letters, true })
	log.add(10)
	b := start(t, path, log)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, log.await(ctx, func() bool { return log.upTo == 10 }))
	b.stop()
	log.update(func() { log.forgets = false })
	b = start(t, path, log)
	log.archived(t)
	b.stop()
	if got := shell(t, path, "SELECT group_concat(seq||stage||reason||time) FROM dead_letters"); got != "3forwardtoo large1,4forwardtoo large2" {
		t.Errorf("dead letters %s", got)
	}
}

// The name of the error counter is shared with another consumer.
func TestMetricsShareARegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	NewMetrics(reg)
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "mqttetl_consumer_errors_total",
		Help: "Attempts of a consumer that ended with an error and were made again.", ConstLabels: prometheus.Labels{"consumer": "nats"}}))
	if _, err := reg.Gather(); err != nil {
		t.Fatal(err)
	}
}

// Where every record is a dead letter of a stage, they move at a rate that keeps
// up with one.
func TestManyDeadLettersMove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	var letters []mqttetl.DeadLetter
	for seq := range mqttetl.Seq(200) {
		letters = append(letters, mqttetl.DeadLetter{Seq: seq + 1, Stage: "publish:r", Reason: "no stream"})
	}
	log.update(func() { log.letters = letters })
	begun := time.Now()
	b := New(Config{Name: "a.db", Open: fileAt(path)}, log)
	b.page = 10
	ended := make(chan error, 1)
	go func() { ended <- b.Run(t.Context()) }()
	t.Cleanup(func() { must(t, <-ended) }) // its context has ended by then
	log.archived(t)
	if took := time.Since(begun); took > 10*time.Second { // one look a second would be 20
		t.Errorf("%d dead letters took %v", len(letters), took)
	}
	if got := shell(t, path, "SELECT count(*), max(seq) FROM dead_letters"); got != "200|200" {
		t.Errorf("dead letters %s", got)
	}
}
