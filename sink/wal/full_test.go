package wal

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

var (
	fullTrials = flag.Int("wal.full", 4, "trials of TestFullTrials")
	fullSeed   = flag.Uint64("wal.seed", 1, "seed of the first of them")
	stuckAfter = flag.Duration("wal.stuck", 10*time.Second, "how long a log from which all has been consumed may take to go on")
)

// TestFullTrials fills disks with the log alone: whenever all has been consumed it
// must go on, and take whatever an empty log on that disk would take. The disk is a
// tmpfs, or a limit of the size of files.
func TestFullTrials(t *testing.T) {
	inSmallDisks(t, *fullTrials, fullTrial)
}

// inSmallDisks calls trial so many times, in a process that may mount small disks, or
// limit the size of files, by the seed.
func inSmallDisks(t *testing.T, trials int, trial func(t *testing.T, seed uint64, dir string)) {
	inNamespace(t, func() {
		for i := range trials {
			seed := *fullSeed + uint64(i)
			onSmallDisk(t, seed, func(dir string) { trial(t, seed, dir) })
		}
	})
}

// inNamespace calls f in a process that may mount.
func inNamespace(t *testing.T, f func()) {
	const inside = "MQTTETL_TEST_FULL"
	if os.Getenv(inside) != "" {
		signal.Ignore(unix.SIGXFSZ) // as main does
		f()
		return
	}
	attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		attr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=0",
		"-wal.seed", strconv.FormatUint(*fullSeed, 10), "-wal.full", strconv.Itoa(*fullTrials), "-wal.stuck", stuckAfter.String())
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v (without root it needs user namespaces: sysctl kernel.unprivileged_userns_clone=1)\n%s", err, out)
	}
	t.Logf("%s", out)
}

// onSmallDisk calls f with a directory on a disk of 16 to 64 MiB, or where files may
// be as large as that, by the seed.
func onSmallDisk(t *testing.T, seed uint64, f func(dir string)) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	size := 16 + rnd.IntN(49)
	dir := t.TempDir()
	if rnd.IntN(2) == 0 {
		t.Logf("seed %d: files of up to %d MiB", seed, size)
		var was unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
		small := unix.Rlimit{Cur: uint64(size) << 20, Max: was.Max}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &small); err != nil {
			t.Fatal(err)
		}
		defer unix.Setrlimit(unix.RLIMIT_FSIZE, &was)
		f(dir)
		return
	}
	t.Logf("seed %d: a disk of %d MiB", seed, size)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	f(dir)
}

// fullTrial has one to four sources fill the disk again and again.
func fullTrial(t *testing.T, seed uint64, dir string) {
	rnd := rand.New(rand.NewPCG(seed, 3))
	large := 1 << (6 + rnd.IntN(17)) // of payloads: 64 B to 4 MiB
	sources := 1 + rnd.IntN(4)
	bursts := rnd.IntN(2) == 0 // the consumer lets the log fill before it reads
	most := takenEmpty(t, filepath.Join(dir, "empty"), 1<<20+rnd.IntN(30<<20))
	path := filepath.Join(dir, "log")
	r := open(t, path, Options{MaxSize: 1 << 30, Consumers: []string{"c"}})
	c := r.Consumer("c")
	c.Seek(0)
	ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	var acked atomic.Int64
	var wg sync.WaitGroup
	for i := range sources {
		rnd := rand.New(rand.NewPCG(seed, uint64(10+i)))
		wg.Go(func() { fullSource(ctx, r.Log, fmt.Sprint("s", i), large, rnd, &acked) })
	}
	published := make(chan struct{})
	go func() { wg.Wait(); close(published) }()
	consumeAll(t, r, c, seed, bursts, published)
	big := strings.Repeat("x", most)
	if !takes(r, big, *stuckAfter) {
		t.Fatalf("seed %d: stuck with %d bytes, which an empty log takes: %+v", seed, most, r.Stats())
	}
	last := r.Stats().Last
	want := mqttetl.Seq(acked.Load()) + 1
	if last != want {
		t.Errorf("seed %d: last record %d, want %d", seed, last, want)
	}
	t.Logf("seed %d: took %d messages", seed, last) // make prove counts them
	verify(t, r, path, last)
}

// takenEmpty is the size of a payload that an empty log takes here: the first of some
// that is not too large.
func takenEmpty(t *testing.T, dir string, size int) int {
	defer os.RemoveAll(dir)
	for ; ; size -= size / 16 {
		r := open(t, dir, Options{MaxSize: 1 << 30, Consumers: []string{"c"}})
		took := takes(r, strings.Repeat("x", size), 0)
		r.close()
		if took {
			return size
		}
		os.RemoveAll(dir)
	}
}

// takes appends a payload and says whether it is committed, for which a pause may
// last so long.
func takes(r *running, payload string, pause time.Duration) bool {
	b := &mqttetl.Batch{Source: "big"}
	done := make(chan error, 1)
	b.Done = func(_ mqttetl.Seq, err error) { done <- err }
	b.Append(1, mqttetl.Message{Topic: []byte("t"), Payload: []byte(payload), Flags: 1})
	r.Append(b)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for since := time.Now(); ; {
		select {
		case err := <-done:
			if err != nil {
				r.t.Error(err)
			}
			return err == nil
		case now := <-tick.C:
			if !r.Stats().Paused {
				since = now
			} else if now.Sub(since) >= pause {
				return false
			}
		}
	}
}

// fullSource appends batches, as many as a link may have outstanding.
func fullSource(ctx context.Context, l *Log, name string, large int, rnd *rand.Rand, acked *atomic.Int64) {
	var out sync.WaitGroup
	defer out.Wait()
	window := make(chan struct{}, max(1, min(64, (8<<20)/large)))
	payload := make([]byte, large)
	for ctx.Err() == nil {
		select {
		case window <- struct{}{}:
		case <-ctx.Done():
			return
		}
		b := &mqttetl.Batch{Source: name}
		for range 1 + rnd.IntN(max(1, min(200, (64<<10)/large))) {
			b.Append(1, mqttetl.Message{Topic: []byte("t"), Payload: payload[:max(1, large-rnd.IntN(1+large/2))], Flags: 1})
		}
		n := int64(b.Len())
		out.Add(1)
		b.Done = func(_ mqttetl.Seq, err error) {
			if err == nil {
				acked.Add(n)
			}
			<-window
			out.Done()
		}
		l.Append(b)
	}
}

// consumeAll reads whatever comes until all that was published is committed and read.
// Where everything is consumed and nothing is committed for so long, the log is stuck.
func consumeAll(t *testing.T, r *running, c *Consumer, seed uint64, bursts bool, published <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	ended, got := false, mqttetl.Seq(0)
	for moved := time.Now(); ; {
		s := r.Stats()
		if got < s.Last && (!bursts || s.Paused || ended) {
			for got < s.Last {
				recs, err := c.Next(context.Background(), 1000)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if recs[0].Seq != got+1 {
					t.Fatalf("seed %d: record %d after %d", seed, recs[0].Seq, got)
				}
				got = recs[len(recs)-1].Seq
				c.Commit(got)
			}
			moved = time.Now()
		}
		if bursts && !s.Paused {
			moved = time.Now()
		}
		if ended && s.Queued == 0 && got == r.Stats().Last {
			return
		}
		if time.Since(moved) > *stuckAfter {
			t.Fatalf("seed %d: stuck: %+v", seed, r.Stats())
		}
		select {
		case err := <-r.end:
			r.stop = nil
			t.Fatalf("seed %d: %v", seed, err)
		case <-published:
			ended, published = true, nil
		case <-tick.C:
		}
	}
}

// TestFullLate: a value that has been refused many times, because the log was not yet
// consumed, is taken as soon as it is.
func TestFullLate(t *testing.T) {
	inSmallDisks(t, 1, func(t *testing.T, seed uint64, dir string) {
		most := takenEmpty(t, filepath.Join(dir, "empty"), 48<<20)
		path := filepath.Join(dir, "log")
		r := open(t, path, Options{MaxSize: 1 << 30, Consumers: []string{"c"}})
		c := r.Consumer("c")
		c.Seek(0)
		const records = 24
		for range records {
			takes(r, strings.Repeat("x", most/2/records), patience)
		}
		taken := make(chan bool, 1)
		go func() { taken <- takes(r, strings.Repeat("x", most), 2**stuckAfter) }() // it waits before, too
		r.until("pauses", func(s Stats) bool { return s.Paused })
		for range 20 {
			r.poke()
			r.until("tries again", func(Stats) bool { return len(r.wake) == 0 })
		}
		last := r.Stats().Last
		for i := mqttetl.Seq(1); i <= last; i++ {
			read(t, c, 1)
			c.Commit(i)
			r.until("trims", func(s Stats) bool { return s.First >= i })
		}
		if !<-taken {
			t.Errorf("stuck with %d bytes, which an empty log takes: %+v", most, r.Stats())
		}
		verify(t, r, path, last+1)
	})
}
