package wal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttetl/mqttetl"
)

// spaced runs a log with an interval, in a time that passes only while all wait.
func spaced(t *testing.T, interval time.Duration, f func(l *Log)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(dir, Options{Interval: interval})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		end := make(chan error, 1)
		go func() { end <- l.Run(ctx) }()
		f(l)
		stop()
		if err := <-end; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// give hands over a batch and says when it was committed, from now.
func give(l *Log, patient bool, payload string) <-chan time.Duration {
	done, begin := make(chan time.Duration, 1), time.Now()
	b := &mqttetl.Batch{Patient: patient, Done: func(_ mqttetl.Seq, err error) {
		if err != nil {
			panic(err)
		}
		done <- time.Since(begin)
	}}
	b.Append(1, mqttetl.Message{Topic: []byte("t"), Payload: []byte(payload)})
	l.Append(b)
	return done
}

func TestInterval(t *testing.T) {
	const interval = 50 * time.Millisecond
	committed := func(t *testing.T, what string, done <-chan time.Duration, want time.Duration) {
		t.Helper()
		if got := <-done; got != want {
			t.Errorf("%s: committed after %v, want %v", what, got, want)
		}
	}
	t.Run("one commit an interval", func(t *testing.T) {
		spaced(t, interval, func(l *Log) {
			committed(t, "the first", give(l, true, "a"), 0)
			begin := time.Now()
			var all []<-chan time.Duration
			for i := range 500 { // for half a second
				all = append(all, give(l, true, fmt.Sprint(i)))
				time.Sleep(time.Millisecond)
			}
			ends := map[time.Duration]int{} // commits, by when they were
			for i, done := range all {
				ends[time.Duration(i)*time.Millisecond+<-done]++
			}
			if len(ends) != 10 {
				t.Errorf("%d commits for 500 messages in %v: %v", len(ends), time.Since(begin), ends)
			}
			time.Sleep(interval)
			committed(t, "after a pause", give(l, true, "a"), 0)
		})
	})
	t.Run("somebody waits", func(t *testing.T) {
		spaced(t, interval, func(l *Log) {
			committed(t, "the first", give(l, true, "a"), 0)
			patient := give(l, true, "b")
			committed(t, "one that is waited for", give(l, false, "c"), 0)
			committed(t, "one before it", patient, 0)
			patient = give(l, true, "d")
			l.Hurry()
			committed(t, "one that is hurried for", patient, 0)
			patient = give(l, true, "e")
			committed(t, "the next", patient, interval)
			time.Sleep(interval / 2)
			patient = give(l, true, "f")
			committed(t, "many bytes", give(l, true, strings.Repeat("x", patientSize)), 0)
			committed(t, "one before them", patient, 0)
		})
	})
	t.Run("no interval", func(t *testing.T) {
		spaced(t, 0, func(l *Log) {
			for range 3 {
				committed(t, "each", give(l, true, "a"), 0)
			}
		})
	})
}

// A log that ends does not wait for the end of an interval, and commits what does.
func TestIntervalEnds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(dir, Options{Interval: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		end := make(chan error, 1)
		go func() { end <- l.Run(ctx) }()
		<-give(l, true, "a")
		errs := make(chan error, 1)
		b := &mqttetl.Batch{Patient: true, Done: func(_ mqttetl.Seq, err error) { errs <- err }}
		b.Append(1, mqttetl.Message{Topic: []byte("t")})
		l.Append(b)
		begin := time.Now()
		stop()
		if err := <-end; err != nil || time.Since(begin) > 0 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if err := <-errs; err != nil || l.Stats().Last != 2 {
			t.Errorf("%v, last record %d", err, l.Stats().Last)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Whatever is handed over: it is committed in order, within an interval, and two
// commits begin within one only if somebody waits.
func TestIntervalAtRandom(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		interval := []time.Duration{0, time.Millisecond, 50 * time.Millisecond, time.Second}[rnd.IntN(4)]
		spaced(t, interval, func(l *Log) {
			var commits []time.Duration // when, since the start
			waited := map[time.Duration]bool{}
			begin := time.Now()
			var seq mqttetl.Seq
			for range 200 {
				at, b := time.Since(begin), &mqttetl.Batch{Patient: rnd.IntN(20) > 0}
				b.Done = func(first mqttetl.Seq, err error) {
					now := time.Since(begin)
					if seq++; err != nil || first != seq {
						t.Errorf("seed %d: record %d, %v, want %d", seed, first, err, seq)
					}
					if now-at > interval || !b.Patient && now > at {
						t.Errorf("seed %d, interval %v: committed after %v, patient %t", seed, interval, now-at, b.Patient)
					}
					if n := len(commits); n == 0 || commits[n-1] != now {
						commits = append(commits, now)
					}
				}
				b.Append(1, mqttetl.Message{Topic: []byte("t")})
				l.Append(b)
				if !b.Patient {
					waited[at] = true
				} else if rnd.IntN(30) == 0 {
					l.Hurry()
					waited[at] = true
				}
				time.Sleep(time.Duration(rnd.Int64N(int64(20 * time.Millisecond))))
			}
			time.Sleep(interval)
			synctest.Wait()
			if seq != 200 {
				t.Errorf("seed %d: %d of 200 committed", seed, seq)
			}
			for i := 1; i < len(commits); i++ {
				if gap := commits[i] - commits[i-1]; gap < interval && !waited[commits[i]] {
					t.Errorf("seed %d: commits at %v and %v, interval %v", seed, commits[i-1], commits[i], interval)
				}
			}
		})
	}
}
