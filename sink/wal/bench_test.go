package wal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// benchDir is on a file system that syncs; a tmpfs would measure nothing.
func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp(".", "bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// BenchmarkAppend hands over batches of 128-byte messages, eight in flight.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 5000} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			l, err := Open(benchDir(b), Options{})
			if err != nil {
				b.Fatal(err)
			}
			r := start(b, l)
			free := make(chan *mqttetl.Batch, 8)
			payload := make([]byte, 128)
			for range cap(free) {
				x := &mqttetl.Batch{Source: "bench"}
				x.Done = func(_ mqttetl.Seq, err error) {
					if err != nil {
						b.Error(err)
					}
					free <- x
				}
				free <- x
			}
			b.ReportAllocs()
			b.SetBytes(128)
			b.ResetTimer()
			for left := b.N; left > 0; left -= n {
				x := <-free
				x.Reset()
				for i := range min(n, left) {
					x.Append(int64(i), mqttetl.Message{Topic: []byte("bench/topic"), Payload: payload, Flags: 1})
				}
				r.Append(x)
			}
			for range cap(free) {
				<-free
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	l, err := Open(benchDir(b), Options{Consumers: []string{"c"}})
	if err != nil {
		b.Fatal(err)
	}
	r := start(b, l)
	payload := make([]byte, 128)
	const each, batches = 5000, 40
	for range batches {
		x, done := batch("bench")
		for i := range each {
			x.Append(int64(i), mqttetl.Message{Topic: []byte("bench/topic"), Payload: payload, Flags: 1})
		}
		r.Append(x)
		r.await(done)
	}
	c := l.Consumer("c")
	b.ReportAllocs()
	b.SetBytes(128)
	b.ResetTimer()
	for got := 0; got < b.N; {
		if c.read == each*batches && len(c.rest) == 0 {
			c.read = 0
		}
		recs, err := c.Next(context.Background(), 10000)
		if err != nil {
			b.Fatal(err)
		}
		got += len(recs)
	}
}

// BenchmarkReadCold drains a log of which no page is in memory, as after a
// restart with a backlog. One operation is the whole log.
func BenchmarkReadCold(b *testing.B) {
	const each, batches = 5000, 100
	dir := benchDir(b)
	fillLog(b, dir, each, batches)
	drains, faults := 0, int64(0)
	b.SetBytes(128 * each * batches)
	for b.Loop() {
		b.StopTimer()
		evict(b, filepath.Join(dir, dataFile))
		l, err := Open(dir, Options{Consumers: []string{"c"}})
		if err != nil {
			b.Fatal(err)
		}
		before := majorFaults(b)
		b.StartTimer()
		c := l.Consumer("c")
		for got := 0; got < each*batches; {
			recs, err := c.Next(context.Background(), 10000)
			if err != nil {
				b.Fatal(err)
			}
			got += len(recs)
		}
		b.StopTimer()
		drains++
		faults += majorFaults(b) - before
		l.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(faults)/float64(drains), "faults/op")
}

// fillLog makes a log of batches of 128-byte messages in dir.
func fillLog(b *testing.B, dir string, each, batches int) {
	l, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	r := start(b, l)
	payload := make([]byte, 128)
	for range batches {
		x, done := batch("bench")
		for i := range each {
			x.Append(int64(i), mqttetl.Message{Topic: []byte("bench/topic"), Payload: payload, Flags: 1})
		}
		r.Append(x)
		r.await(done)
	}
	r.close()
}

// evict takes a file out of the page cache; no process may have it mapped.
func evict(b *testing.B, path string) {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		b.Fatal(err)
	}
}

// majorFaults is how many page faults of this process had to read.
func majorFaults(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Majflt
}
