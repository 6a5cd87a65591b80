package replay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
)

// JetStream plays records into a stream, through the forwarder: every record
// once, in order, each behind the one before it. The forwarder reads from the
// window that is kept here as it reads from the log.
type JetStream struct {
	forwarder *forward.Forwarder
	stored    mqttetl.Seq
	confirmed Confirm
	refused   func(*RefusedError) error
	down      func(error)
	end       context.CancelFunc
	ended     chan struct{}
	began     chan mqttetl.Seq // gets the stream's end once

	mu      sync.Mutex
	window  []mqttetl.Record // sent and not confirmed, oldest first
	bytes   int
	read    int         // of window, handed to the forwarder
	passed  mqttetl.Seq // all up to it is settled
	open    bool        // began has got its value
	halted  bool        // a refused record has ended the replay: the position stays before it
	changed chan struct{}
}

const (
	streamWindow      = 16384 // messages, two windows of the forwarder
	streamWindowBytes = 32 << 20
)

// patience is how long a destination may be in trouble before the replay ends. A
// test has more.
var patience = 10 * time.Second

// lookEvery is how often it is looked whether the trouble is one that stays.
const lookEvery = 100 * time.Millisecond

// OpenJetStream connects, makes the stream if it is absent, and returns the last
// record that the stream holds: proven by cfg.Key, at least after, up to which all
// was confirmed before; or with cfg.Fresh whatever has an id of cfg.LogID. 0 if there is none.
// refused is told of records that JetStream will never take; if it returns an
// error the replay ends.
func OpenJetStream(ctx context.Context, cfg forward.Config, after mqttetl.Seq, confirmed Confirm, refused func(*RefusedError) error, down func(error)) (_ *JetStream, end mqttetl.Seq, err error) {
	j := &JetStream{
		stored: after, confirmed: confirmed, refused: refused, down: down,
		ended: make(chan struct{}), began: make(chan mqttetl.Seq, 1), changed: make(chan struct{}),
	}
	if j.forwarder, err = forward.New(cfg, streamLog{j}); err != nil {
		return nil, 0, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	j.end = stop
	go j.run(run)
	wait, cancel := context.WithTimeoutCause(ctx, patience, errors.New("it does not answer"))
	defer cancel()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case end = <-j.began:
			return j, max(end, j.forwarder.Stats().Claimed), nil
		case <-look.C:
			if err := j.forwarder.Stats().LastError; errors.Is(err, nats.ErrNoResponders) || errors.Is(err, forward.ErrConfigured) {
				return nil, 0, errors.Join(err, j.Close()) // JetStream is off, or the stream another, and will be
			}
		case <-wait.Done():
			err = j.forwarder.Stats().LastError
			if err == nil || ctx.Err() != nil {
				err = context.Cause(wait)
			}
			if !errors.Is(err, mqttetl.ErrUnavailable) {
				err = unavailable("stream "+cfg.Stream, err)
			}
			return nil, 0, errors.Join(err, j.Close())
		}
	}
}

// run forwards, and watches whether it gets on.
func (j *JetStream) run(ctx context.Context) {
	defer close(j.ended)
	failed := make(chan error, 1)
	go func() { failed <- j.forwarder.Run(ctx) }()
	tick := time.NewTicker(patience / 20)
	defer tick.Stop()
	var since time.Time // when the present trouble began
	var at mqttetl.Seq
	for {
		select {
		case err := <-failed:
			if err != nil && ctx.Err() == nil {
				j.down(err)
			}
			return
		case now := <-tick.C:
			s := j.forwarder.Stats()
			if s.LastError == nil || s.Cursor != at || since.IsZero() {
				since, at = now, s.Cursor
			}
			if s.LastError != nil && now.Sub(since) >= patience {
				j.down(unavailable("publish to JetStream", s.LastError))
			}
		}
	}
}

// Send implements Destination.
func (j *JetStream) Send(ctx context.Context, r *mqttetl.Record) error {
	err := j.await(ctx, func() bool {
		return len(j.window) < streamWindow && (len(j.window) == 0 || j.bytes+len(r.Payload) <= streamWindowBytes)
	})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.window = append(j.window, r.Clone())
	j.bytes += len(r.Payload)
	j.wake()
	return nil
}

// Flush implements Destination: the forwarder waits for nothing.
func (j *JetStream) Flush(context.Context) error { return nil }

// Drain implements Destination.
func (j *JetStream) Drain(ctx context.Context) error {
	return j.await(ctx, func() bool { return len(j.window) == 0 })
}

// Close implements Destination.
func (j *JetStream) Close() error {
	j.end()
	<-j.ended
	return nil
}

// await waits until ok, which is called with the lock held, returns true.
func (j *JetStream) await(ctx context.Context, ok func() bool) error {
	for {
		j.mu.Lock()
		done, changed := ok(), j.changed
		j.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// wake lets everybody who awaits look again; the lock is held.
func (j *JetStream) wake() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// settle confirms what is in the window up to there and drops it. It holds the
// lock for both: Drain returns when the window is empty, and by then all must be
// confirmed.
func (j *JetStream) settle(upTo mqttetl.Seq) {
	if n := j.drop(upTo); n > 0 {
		j.confirmed(upTo, n)
	}
	j.wake()
}

// drop takes what is settled out of the window.
func (j *JetStream) drop(upTo mqttetl.Seq) (n int) {
	for n < len(j.window) && j.window[n].Seq <= upTo {
		j.bytes -= len(j.window[n].Payload)
		n++
	}
	clear(j.window[:n])
	j.window = j.window[n:]
	j.read = max(0, j.read-n)
	j.passed = max(j.passed, upTo)
	return n
}

// streamLog is the window as the forwarder sees it.
type streamLog struct{ *JetStream }

// Stored implements forward.Log.
func (l streamLog) Stored() mqttetl.Seq { return l.stored }

// Seek implements forward.Log. What it is told for the first time is where the
// stream ends. Behind that the numbers have holes, so nothing is ever missing.
func (l streamLog) Seek(after mqttetl.Seq) (next mqttetl.Seq, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.halted {
		return 0, mqttetl.ErrClosed
	}
	if !l.open {
		l.open, l.passed = true, after
		l.began <- after
	}
	if after < l.passed {
		return 0, fmt.Errorf("the stream has lost what it had confirmed: it ends with record %d, %d were confirmed: %w", after, l.passed, mqttetl.ErrUnavailable)
	}
	l.settle(after) // stored, but the acknowledgement was lost
	l.read = 0
	return after + 1, nil
}

// Next implements forward.Log.
func (l streamLog) Next(ctx context.Context, max int) ([]mqttetl.Record, error) {
	if err := l.await(ctx, func() bool { return l.read < len(l.window) }); err != nil {
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(max, len(l.window)-l.read)
	recs := append([]mqttetl.Record(nil), l.window[l.read:l.read+n]...)
	l.read += n
	return recs, nil
}

// Commit implements forward.Log.
func (l streamLog) Commit(upTo mqttetl.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.halted {
		l.settle(upTo)
	}
}

// DeadLetter implements forward.Log. All before the record is settled. It leaves
// the window, so that it is not tried again; or the forwarder is ended before it
// sends another, because the stream's end must not pass what is not in it.
func (l streamLog) DeadLetter(d mqttetl.DeadLetter) {
	err := l.refused(&RefusedError{d.Seq, errors.New(d.Reason)})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.drop(d.Seq)
		l.wake()
		return
	}
	l.halted = true
	l.end()
	l.down(err)
}

// unavailable marks err as something that may pass.
func unavailable(what string, err error) error {
	return fmt.Errorf("%s: %w: %w", what, mqttetl.ErrUnavailable, err)
}
