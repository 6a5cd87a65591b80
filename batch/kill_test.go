package batch

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// childDir makes the test binary a child that archives until it is killed.
const childDir = "MQTTETL_TEST_ARCHIVE_DIR"

const killRecords = 60_000

// endlessLog generates its records and prints every position it is told.
type endlessLog struct {
	memoryLog
	next mqttetl.Seq
	buf  []mqttetl.Record
}

func (l *endlessLog) Seek(after mqttetl.Seq) (mqttetl.Seq, error) {
	l.next = after + 1
	return l.next, nil
}

func (l *endlessLog) Next(ctx context.Context, n int) ([]mqttetl.Record, error) {
	if l.next > killRecords {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	l.buf = l.buf[:0]
	for range min(n, 50+rand.IntN(500), int(killRecords+1-l.next)) {
		l.buf = append(l.buf, recordOf(l.next))
		l.next++
	}
	return l.buf, nil
}

func (l *endlessLog) Commit(upTo mqttetl.Seq) { fmt.Println(upTo) }

func archiveUntilKilled(dir string) {
	log := &endlessLog{}
	log.changed = make(chan struct{})
	b := New(Config{Name: "a.db", Open: fileAt(filepath.Join(dir, "a.db")), Count: 2000, Period: 2 * time.Millisecond}, log)
	if err := b.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Killed at random moments, the archive goes on where it stood: what the log
// was told is there, and in the end each record is one row.
func TestKill(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	kills := 0
	for told := mqttetl.Seq(0); told < killRecords; kills++ {
		told = killAfter(t, dir, rnd.IntN(15), time.Duration(rnd.IntN(3000))*time.Microsecond)
		_, cursor, err := archive.ReadCursor(path)
		must(t, err)
		if cursor < told {
			t.Fatalf("kill %d: the log was told %d, the archive ends at %d", kills, told, cursor)
		}
		told = cursor // all of it: no child would have anything to tell
	}
	t.Logf("%d kills", kills)
	exact(t, path, 1, killRecords)
}

// killAfter runs a child, kills it a while after its n-th commit and returns
// the last position that it told the log.
func killAfter(t *testing.T, dir string, n int, d time.Duration) (told mqttetl.Seq) {
	exe, err := os.Executable()
	must(t, err)
	c := exec.Command(exe)
	c.Env = append(os.Environ(), childDir+"="+dir)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		v, err := strconv.ParseUint(lines.Text(), 10, 64)
		must(t, err)
		told = mqttetl.Seq(v)
		if i == n || told == killRecords {
			time.AfterFunc(d, func() { _ = c.Process.Kill() }) // at any moment of the next commits
		}
	}
	if err := c.Wait(); err == nil || c.ProcessState.Exited() {
		t.Fatalf("child ended by itself: %v", err)
	}
	return told
}

// limitFileSize makes writes beyond n bytes of a file fail, as on a full disk.
func limitFileSize(t *testing.T, n uint64) (room func()) {
	signal.Ignore(syscall.SIGXFSZ)
	var was syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: n, Max: was.Max}))
	restore := func() { must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was)) }
	t.Cleanup(restore)
	return restore
}
