package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// processTime is the processor time of a process, user and system, of all its
// threads, in nanoseconds rather than clock ticks: its CPU clock, made as
// clock_getcpuclockid(3) makes it.
func processTime(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// endedChildren is the processor time of the children of this process that
// have ended.
func endedChildren() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u); err != nil {
		panic(err) // the flag and the pointer are right
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// procNumber reads the number behind "key:" in a file of /proc.
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

// writtenBytes is what a process has had written to disk, as it dirtied pages.
func writtenBytes(pid int) (int64, error) {
	return procNumber(fmt.Sprintf("/proc/%d/io", pid), "write_bytes")
}

// anonymous is the resident memory of a process that is no file's.
func anonymous(pid int) (int64, error) {
	kb, err := procNumber(fmt.Sprintf("/proc/%d/status", pid), "RssAnon")
	return kb << 10, err
}

// sampleEvery is the time between two looks at a process's memory.
const sampleEvery = 10 * time.Millisecond

// A peak is the highest anonymous memory seen of a process.
type peak struct {
	bytes atomic.Int64
	stop  chan struct{}
	done  chan struct{}
}

// watchMemory looks at a process until end is called.
func watchMemory(pid int) *peak {
	p := &peak{stop: make(chan struct{}), done: make(chan struct{})}
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

// end stops looking and returns the highest in bytes.
func (p *peak) end() int64 {
	close(p.stop)
	<-p.done
	return p.bytes.Load()
}

// series are the values of a Prometheus page, by name and labels as they stand there.
type series map[string]float64

func parseSeries(page []byte) (series, error) {
	s := series{}
	lines := bufio.NewScanner(bytes.NewReader(page))
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		s[line[:max(i, 0)]] = v
	}
	return s, lines.Err()
}

// quantile estimates a quantile of what a histogram has counted since before,
// linearly within its bucket, as Prometheus does. NaN: it has counted nothing.
func (s series) quantile(q float64, histogram string, before series) float64 {
	type bucket struct{ upTo, count float64 }
	var buckets []bucket
	for name := range s {
		labels, ok := strings.CutPrefix(name, histogram+"_bucket{")
		if !ok {
			continue
		}
		_, label, _ := strings.Cut(labels, `le="`) // the last one
		upTo, err := strconv.ParseFloat(strings.TrimSuffix(label, `"}`), 64)
		if err != nil {
			continue
		}
		buckets = append(buckets, bucket{upTo, s[name] - before[name]})
	}
	slices.SortFunc(buckets, func(a, b bucket) int { return cmp.Compare(a.upTo, b.upTo) })
	if len(buckets) == 0 || buckets[len(buckets)-1].count == 0 {
		return math.NaN()
	}
	rank := q * buckets[len(buckets)-1].count
	low, below := 0.0, 0.0
	for _, b := range buckets {
		if b.count >= rank {
			if math.IsInf(b.upTo, 1) {
				return low
			}
			return low + (b.upTo-low)*(rank-below)/(b.count-below)
		}
		low, below = b.upTo, b.count
	}
	return low
}

// The metrics of mqttetl that are read.
const (
	mallocsTotal  = "go_memstats_mallocs_total"
	commitSeconds = "mqttetl_log_commit_seconds"
	ackSeconds    = "mqttetl_puback_seconds"
)
