package batch

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
)

// memoryLog is a Log in memory that keeps its contract and trims eagerly, like
// the real one: a record that was committed is gone.
type memoryLog struct {
	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	records  []mqttetl.Record
	first    mqttetl.Seq // of records, or the next Seq where there are none
	read     mqttetl.Seq
	upTo     mqttetl.Seq // Commit
	letters  []mqttetl.DeadLetter
	forgets  bool // DropDeadLetters does nothing, as if the process died before it
	keep     bool // trim nothing
	failNext error
}

func newMemoryLog() *memoryLog { return &memoryLog{first: 1, changed: make(chan struct{})} }

// update runs f and wakes all who wait.
func (l *memoryLog) update(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

// await waits until cond holds.
func (l *memoryLog) await(ctx context.Context, cond func() bool) error {
	for {
		l.mu.Lock()
		ok, changed := cond(), l.changed
		l.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (l *memoryLog) last() mqttetl.Seq { return l.first + mqttetl.Seq(len(l.records)) - 1 }

// add appends n records.
func (l *memoryLog) add(n int) {
	l.update(func() {
		for range n {
			l.records = append(l.records, recordOf(l.last()+1))
		}
	})
}

func (l *memoryLog) trim(upTo mqttetl.Seq) {
	if n := int(upTo+1) - int(l.first); n > 0 {
		l.records, l.first = l.records[n:], upTo+1
	}
}

func (l *memoryLog) Seek(after mqttetl.Seq) (next mqttetl.Seq, err error) {
	l.update(func() {
		if after > l.last() {
			err = fmt.Errorf("position %d behind %d: %w", after, l.last(), mqttetl.ErrForeign)
			return
		}
		next = max(after+1, l.first)
		l.read, l.upTo = next-1, after
	})
	return next, err
}

func (l *memoryLog) Next(ctx context.Context, n int) (rs []mqttetl.Record, err error) {
	err = l.await(ctx, func() bool { return l.failNext != nil || l.last() > l.read })
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failNext != nil {
		return nil, l.failNext
	}
	rs = l.records[l.read+1-l.first:]
	rs = rs[:min(n, len(rs))]
	l.read += mqttetl.Seq(len(rs))
	return rs, nil
}

func (l *memoryLog) Commit(upTo mqttetl.Seq) {
	l.update(func() {
		l.upTo = max(l.upTo, upTo)
		if !l.keep {
			l.trim(l.upTo)
		}
	})
}

func (l *memoryLog) Lag() (uint64, time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(l.last() - l.upTo), 0, nil
}

func (l *memoryLog) HasDeadLetters() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.letters) > 0
}

func (l *memoryLog) DeadLetters(n int) ([]mqttetl.DeadLetter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.letters[:min(n, len(l.letters)):len(l.letters)], nil
}

func (l *memoryLog) DropDeadLetters(ds []mqttetl.DeadLetter) {
	l.update(func() {
		if !l.forgets {
			l.letters = l.letters[len(ds):]
		}
	})
}

// recordOf is the one record with this Seq, so that a row can be checked alone.
func recordOf(seq mqttetl.Seq) mqttetl.Record {
	return mqttetl.Record{Seq: seq, Time: int64(seq) * 1000, Source: "plant", Message: mqttetl.Message{
		Topic: fmt.Appendf(nil, "t/%d", seq%100), Payload: fmt.Appendf(nil, "payload %d", seq), Flags: 1,
	}}
}

// notExact counts the rows that are not what recordOf says.
const notExact = `SELECT count(*) FROM msg WHERE topic <> 't/'||(seq%100) OR payload <> 'payload '||seq OR source <> 'plant'`

// archived waits until the log was told that everything is archived.
func (l *memoryLog) archived(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if l.await(ctx, func() bool { return l.upTo == l.last() && len(l.letters) == 0 }) != nil {
		tb.Fatalf("log has records up to %d and %d dead letters, archived are %d", l.last(), len(l.letters), l.upTo)
	}
}
