package forward

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
)

const testLogID = "00c0ffee00c0ffee"

var testKey = []byte("the key of a log")

// memLog is a log in memory that implements Log. Records are made by number,
// so that a long log costs nothing.
type memLog struct {
	mu      sync.Mutex
	first   mqttetl.Seq // 1 unless trimmed
	records []mqttetl.Record
	grown   chan struct{} // closed and replaced when records are added
	stored  mqttetl.Seq
	at      mqttetl.Seq
	dead    []mqttetl.DeadLetter
	buf     []mqttetl.Record
	moved   chan struct{} // closed and replaced at each move of stored
	seeks   []mqttetl.Seq
}

func newMemLog() *memLog {
	return &memLog{first: 1, grown: make(chan struct{}), moved: make(chan struct{})}
}

// record is the n-th of the generated records.
func record(n int) mqttetl.Record {
	return mqttetl.Record{Time: 1_700_000_000_000_000_000 + int64(n), Source: "plant", Message: mqttetl.Message{
		Topic:   fmt.Appendf(nil, "factory/line%d/temp", n%100),
		Payload: fmt.Appendf(nil, "payload %d", n),
		Flags:   1,
	}}
}

func (l *memLog) add(recs ...mqttetl.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range recs {
		r.Seq = l.first + mqttetl.Seq(len(l.records))
		l.records = append(l.records, r)
	}
	close(l.grown)
	l.grown = make(chan struct{})
}

// grow adds n generated records.
func (l *memLog) grow(n int) {
	l.mu.Lock()
	from := int(l.first) + len(l.records)
	l.mu.Unlock()
	recs := make([]mqttetl.Record, n)
	for i := range recs {
		recs[i] = record(from + i)
	}
	l.add(recs...)
}

func (l *memLog) last() mqttetl.Seq { return l.first + mqttetl.Seq(len(l.records)) - 1 }

func (l *memLog) Stored() mqttetl.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stored
}

func (l *memLog) Seek(after mqttetl.Seq) (mqttetl.Seq, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if after > l.last() {
		return 0, fmt.Errorf("position %d, last record %d: %w", after, l.last(), mqttetl.ErrForeign)
	}
	l.seeks = append(l.seeks, after)
	l.stored = after
	l.at = max(after+1, l.first)
	close(l.moved)
	l.moved = make(chan struct{})
	return l.at, nil
}

func (l *memLog) Next(ctx context.Context, max int) ([]mqttetl.Record, error) {
	for {
		l.mu.Lock()
		if l.at == 0 {
			l.mu.Unlock()
			panic("Next before Seek")
		}
		rest := l.records[l.at-l.first:]
		grown := l.grown
		if len(rest) > 0 {
			// What the last call returned is no longer valid: scribble over it.
			for i := range l.buf {
				l.buf[i] = mqttetl.Record{}
			}
			l.buf = append(l.buf[:0], rest[:min(max, len(rest))]...)
			l.at += mqttetl.Seq(len(l.buf))
			l.mu.Unlock()
			return l.buf, nil
		}
		l.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *memLog) Commit(upTo mqttetl.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if upTo < l.stored || upTo >= l.at {
		panic(fmt.Sprintf("commit of %d at position %d, read up to %d", upTo, l.stored, l.at-1))
	}
	l.stored = upTo
	close(l.moved)
	l.moved = make(chan struct{})
}

func (l *memLog) DeadLetter(d mqttetl.DeadLetter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.Seq != l.stored+1 {
		panic(fmt.Sprintf("dead letter %d, but position %d", d.Seq, l.stored))
	}
	l.dead = append(l.dead, d)
}

func (l *memLog) deadLetters() []mqttetl.DeadLetter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]mqttetl.DeadLetter(nil), l.dead...)
}

// await waits until all up to seq is committed.
func (l *memLog) await(t *testing.T, seq mqttetl.Seq) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		l.mu.Lock()
		stored, moved := l.stored, l.moved
		l.mu.Unlock()
		if stored >= seq {
			return
		}
		select {
		case <-moved:
		case <-deadline:
			t.Fatalf("committed up to %d after 60 s, want %d", stored, seq)
		}
	}
}
