package instrument

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ProcessTime is the processor time of a process, 0 is this one, user and system,
// of all its threads, in nanoseconds rather than clock ticks: its CPU clock, made
// as clock_getcpuclockid(3) makes it.
func ProcessTime(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// EndedChildren is the processor time of the children of this process that have
// ended.
func EndedChildren() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u); err != nil {
		panic(err) // the flag and the pointer are right
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// procNumber reads the number after "key:" in a file of /proc.
func procNumber(path, key string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(key+":")); ok {
			return strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(rest)), "kB")), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s: no %s", path, key)
}

// WrittenBytes is what a process has had written to disk, as it dirtied pages.
func WrittenBytes(pid int) (int64, error) {
	return procNumber(fmt.Sprintf("/proc/%d/io", pid), "write_bytes")
}

// anonymous is the resident memory of a process that is no file's.
func anonymous(pid int) (int64, error) {
	kb, err := procNumber(fmt.Sprintf("/proc/%d/status", pid), "RssAnon")
	return kb << 10, err
}

// sampleEvery is the time between two looks at a process's memory.
const sampleEvery = 10 * time.Millisecond

// A Peak is the highest anonymous memory seen of a process.
type Peak struct {
	bytes atomic.Int64
	stop  chan struct{}
	done  chan struct{}
}

// WatchMemory looks at a process until End is called.
func WatchMemory(pid int) *Peak {
	p := &Peak{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		again := time.NewTicker(sampleEvery)
		defer again.Stop()
		for {
			if v, err := anonymous(pid); err == nil {
				p.bytes.Store(max(p.bytes.Load(), v))
			}
			select {
			case <-again.C:
			case <-p.stop:
				return
			}
		}
	}()
	return p
}

// End stops looking and returns the highest in bytes.
func (p *Peak) End() int64 {
	close(p.stop)
	<-p.done
	return p.bytes.Load()
}
