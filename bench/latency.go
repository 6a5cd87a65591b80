package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// The open loop: how many messages a second, and for how long.
var paces = []int{100, 1000, 10000}

const paceTime = 6 * time.Second

// paced measures the whole pipeline at every pace, and the log alone at the
// highest, one round.
func (b *bench) paced(r results) error {
	for _, pace := range paces {
		m, err := b.measurePaced(everything, pace)
		if err != nil {
			return fmt.Errorf("%s at %d msg/s: %w", everything.name, pace, err)
		}
		b.noteLatency(r, point{subject(everything.name), targetShape, pace}, m)
	}
	pace := paces[len(paces)-1]
	m, err := b.measureFloorAt(targetShape, b.pacedFor(pace), pace)
	if err != nil {
		return fmt.Errorf("%s at %d msg/s: %w", writeAndSync, pace, err)
	}
	b.noteLatency(r, pacedFloor, m)
	m, err = b.measurePaced(logOnly, pace)
	if err != nil {
		return fmt.Errorf("%s at %d msg/s: %w", logOnly.name, pace, err)
	}
	b.noteLatency(r, point{subject(logOnly.name), targetShape, pace}, m)
	return nil
}

// pacedFor is how many messages are sent at a pace.
func (b *bench) pacedFor(pace int) int {
	return max(int(float64(pace)*paceTime.Seconds()*b.scale), 200)
}

func (b *bench) noteLatency(r results, p point, m measurement) {
	r.add(p, m)
	b.logf("%-33s %6d msg/s  PUBACK p99 %v  in the program %v  commit %.2f ms  row p99 %v  stream p99 %v", p.subject, p.rate,
		m.Latency.P99, m.Ack.P99, m.CommitP99*1e3, m.Row.P99, m.Stream.P99)
}

// measurePaced runs a stage in open loop and watches when messages appear in
// the stores.
func (b *bench) measurePaced(st stage, pace int) (measurement, error) {
	n := b.pacedFor(pace)
	t := &trial{stage: st, shape: targetShape, n: n, rate: pace}
	if st.archive || st.nats {
		w := &watch{rows: make([]int64, n), stream: make([]int64, n)}
		t.during = w.watch
		t.after = func(m *measurement, start int64) {
			m.Row = w.latencies(w.rows, start, pace)
			m.Stream = w.latencies(w.stream, start, pace)
		}
	}
	return b.try(t)
}

// A watch notes when each message could be read from a store: Unix nanoseconds,
// by the message's number.
type watch struct{ rows, stream []int64 }

// watch looks until all messages have been seen in both stores.
func (w *watch) watch(t *trial, stop <-chan struct{}) error {
	streamed := make(chan error, 1)
	go func() { streamed <- w.watchStream(t, stop) }()
	return errors.Join(w.watchRows(t, stop), <-streamed)
}

// late is how long after the stores are complete a message may still be on its
// way to the watcher.
const late = 10 * time.Second

// rowEvery is the time between two looks at the archive, and so how exactly
// the time of a row is known.
const rowEvery = 2 * time.Millisecond

// watchRows reads the archive as any reader would.
func (w *watch) watchRows(t *trial, stop <-chan struct{}) error {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.dir, "telemetry.db")+"?mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	last, err := db.Prepare(`SELECT coalesce(max(seq), 0) FROM messages`)
	if err != nil {
		return err
	}
	defer last.Close()
	again := time.NewTicker(rowEvery)
	defer again.Stop()
	var over <-chan time.Time
	for seen := 0; seen < len(w.rows); {
		var seq int
		if err := last.QueryRow().Scan(&seq); err != nil {
			return fmt.Errorf("watch the archive: %w", err)
		}
		for now := time.Now().UnixNano(); seen < min(seq, len(w.rows)); seen++ {
			w.rows[seen] = now
		}
		select {
		case <-again.C:
		case <-stop:
			stop, over = nil, time.After(late)
		case <-over:
			return fmt.Errorf("watch the archive: %d rows of %d", seen, len(w.rows))
		}
	}
	return nil
}

// watchStream consumes the stream as any consumer would.
func (w *watch) watchStream(t *trial, stop <-chan struct{}) error {
	consumer, err := t.js.OrderedConsumer(t.ctx, t.stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("watch the stream: %w", err)
	}
	var seen atomic.Int64
	all := make(chan struct{})
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		n, err := counter(m.Data())
		if err != nil || n >= uint64(len(w.stream)) || w.stream[n] != 0 {
			return // the count will be wrong
		}
		w.stream[n] = time.Now().UnixNano()
		if int(seen.Add(1)) == len(w.stream) {
			close(all)
		}
	})
	if err != nil {
		return fmt.Errorf("watch the stream: %w", err)
	}
	defer consuming.Stop()
	select {
	case <-all:
		return nil
	case <-stop:
	}
	ctx, cancel := context.WithTimeout(t.ctx, late)
	defer cancel()
	select {
	case <-all:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("watch the stream: %d messages of %d", seen.Load(), len(w.stream))
	}
}

// latencies are the times from when each message was to be sent.
func (w *watch) latencies(seen []int64, start int64, pace int) instrument.Quantiles {
	h := instrument.NewLatencies()
	for i, at := range seen {
		h.Record(at - intended(start, i, pace))
	}
	return h.Quantiles(true)
}
