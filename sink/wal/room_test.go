package wal

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// TestDiskFull runs in a mount namespace of its own, on a small tmpfs. As an
// ordinary user it needs unprivileged user namespaces.
func TestDiskFull(t *testing.T) {
	const env = "MQTTETL_TEST_SMALL_DISK"
	if os.Getenv(env) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
		cmd.Env = append(os.Environ(), env+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestDiskFull") {
			t.Fatalf("%v (needs user namespaces: sysctl kernel.unprivileged_userns_clone=1)\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	fullByOthers(t, filepath.Join(dir, "a"), filepath.Join(dir, "filler"))
	fullByLog(t, filepath.Join(dir, "b"))
	os.RemoveAll(filepath.Join(dir, "b"))
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	shared(t, filepath.Join(dir, "c"), filepath.Join(dir, "rows"))
}

// shared: the consumer stores on the same disk. The log leaves it the room for
// all that it holds, gives back what it no longer needs, and uses that again.
func shared(t *testing.T, dir, rows string) {
	r := open(t, dir, Options{Consumers: []string{"c"}, Drain: "c"})
	c := r.Consumer("c")
	c.Seek(0)
	payload := strings.Repeat("x", 100<<10)
	n := mqttetl.Seq(0)
	toFull := func() chan outcome {
		for {
			b, waiting := batch("s", payload)
			r.Append(b)
			r.until("commits or pauses", func(s Stats) bool { return s.Paused || s.Last == n+1 })
			if len(waiting) == 0 && r.Stats().Paused {
				return waiting
			}
			r.await(waiting)
			n++
		}
	}
	waiting := toFull()
	free, err := freeSpace(r.room.fd)
	if pending := int64(n) * int64(len(payload)); err != nil || n == 0 || free < drainRoom(pending, 0) {
		t.Fatalf("%d bytes are free for %d of %d records, %v", free, pending, n, err)
	}
	fill(t, rows) // the consumer has stored them, and the disk is full
	c.Seek(0)
	for c.read < n {
		read(t, c, int(n-c.read))
	}
	c.Commit(n)
	if got := r.await(waiting); got != n+1 { // in what the log has given back
		t.Errorf("goes on with record %d, want %d", got, n+1)
	}
	if free, err := freeSpace(r.room.fd); err != nil || free < 1<<20 {
		t.Errorf("%d bytes are free, %v", free, err)
	}
	if err := os.Remove(rows); err != nil {
		t.Fatal(err)
	}
	n++
	waiting = toFull() // into the pages that were given back
	for c.read < n {
		read(t, c, int(n-c.read))
	}
	if len(waiting) > 0 { // it was a short pause
		n++
	}
	verify(t, r, dir, n)
}

// fullByOthers: another file takes the disk and gives it back.
func fullByOthers(t *testing.T, dir, filler string) {
	r := open(t, dir, Options{Consumers: []string{"c"}})
	c := r.Consumer("c")
	c.Seek(0)
	r.put("s", "before")
	fill(t, filler)
	n := mqttetl.Seq(1)
	var waiting chan outcome
	payload := strings.Repeat("x", 100<<10)
	for range 200 { // what the file has in reserve may still be used
		var b *mqttetl.Batch
		b, waiting = batch("s", payload)
		r.Append(b)
		r.until("commits or pauses", func(s Stats) bool { return s.Paused || s.Last == n+1 })
		if r.Stats().Paused {
			break
		}
		r.await(waiting)
		n++
	}
	if !r.Stats().Paused {
		t.Fatal("does not pause on a full disk")
	}
	if len(waiting) > 0 {
		t.Fatalf("acknowledged on a full disk: %+v", <-waiting)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if got := r.await(waiting); got != n+1 {
		t.Errorf("resumes with record %d, want %d", got, n+1)
	}
	r.until("resumes", func(s Stats) bool { return !s.Paused })
	verify(t, r, dir, n+1)
	os.RemoveAll(dir)
}

// fullByLog: the log itself takes the disk, and the consumer makes room.
func fullByLog(t *testing.T, dir string) {
	r := open(t, dir, Options{Consumers: []string{"c"}})
	c := r.Consumer("c")
	c.Seek(0)
	payload := strings.Repeat("x", 100<<10)
	n := mqttetl.Seq(0)
	for range 500 {
		b, waiting := batch("s", payload)
		r.Append(b)
		r.until("commits or pauses", func(s Stats) bool { return s.Paused || s.Last == n+1 })
		if r.Stats().Paused {
			for len(waiting) == 0 {
				read(t, c, 1)
				c.Commit(c.read)
				r.until("makes room", func(s Stats) bool { return s.First >= c.read || len(waiting) > 0 })
				if c.read == n {
					break
				}
			}
		}
		if got := r.await(waiting); got != n+1 {
			t.Fatalf("record %d, want %d", got, n+1)
		}
		n++
	}
	verify(t, r, dir, n)
}

// verify closes the log and checks that it is whole up to last.
func verify(t *testing.T, r *running, dir string, last mqttetl.Seq) {
	t.Helper()
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	rep, err := Verify(dir, nil)
	if err != nil || rep.Last != last || len(rep.Problems) > 0 || rep.Records != int(rep.Last-rep.First)+1 {
		t.Errorf("%+v, %v; want records up to %d", rep, err, last)
	}
}

// fill writes path until there is no room left.
func fill(t *testing.T, path string) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err == nil {
			continue
		}
		size /= 2
	}
}

// TestHousekeepingWithoutRoom: housekeeping that a full disk does not let commit is not
// tried without a pause.
func TestHousekeepingWithoutRoom(t *testing.T) {
	l, err := Open(t.TempDir(), Options{Consumers: []string{"c"}})
	if err != nil {
		t.Fatal(err)
	}
	var full atomic.Bool
	tried := make(chan bool, 1000)
	l.update = func(op lmdb.TxnOp) error {
		if !full.Load() {
			return l.env.Update(op)
		}
		select {
		case tried <- true:
		default:
		}
		return unix.ENOSPC
	}
	r := start(t, l)
	r.put("s", "1")
	r.put("s", "2")
	full.Store(true)
	c := r.Consumer("c")
	c.Seek(0)
	read(t, c, 2)
	c.Commit(2)
	<-tried
	<-time.After(housekeepingDelay / 2)
	if n := len(tried); n > 10 {
		t.Errorf("it is tried %d times in %v", n, housekeepingDelay/2)
	}
	full.Store(false)
	r.until("is done when there is room", func(s Stats) bool { return s.First == 2 })
}

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, Options{})
	for i := range 50 {
		r.put("s", fmt.Sprint(i)+strings.Repeat("x", 1<<20))
		need, size, err := fileExtent(filepath.Join(dir, dataFile))
		if err != nil || size < need {
			t.Fatalf("file of %d bytes, needs %d, %v", size, need, err)
		}
	}
}

// TestOpenOnFullDisk: a log whose table of readers has no room on the disk is refused.
// A page of that memory would have no room on the disk, and the process would end by a signal.
func TestOpenOnFullDisk(t *testing.T) {
	inSmallDisks(t, 1, func(t *testing.T, _ uint64, small string) {
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		log := filepath.Join(dir, "log")
		l, err := Open(log, Options{})
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if err := os.Remove(filepath.Join(log, readersFile)); err != nil {
			t.Fatal(err)
		}
		fill(t, filepath.Join(dir, "filler"))
		for _, path := range []string{log, filepath.Join(dir, "new")} {
			l, err := Open(path, Options{})
			if err == nil {
				l.Close()
			}
			if !isNoSpace(err) {
				t.Errorf("%s: error %v", path, err)
			}
		}
		if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
			t.Fatal(err)
		}
		r := open(t, log, Options{})
		r.put("s", "x")
		verify(t, r, log, 1)
	})
}
