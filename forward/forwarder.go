package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
)

// Log is the log as this consumer sees it. One goroutine at a time calls Seek
// and Next; Commit and DeadLetter may be called beside them.
type Log interface {
	// Stored is the position that the log last knew, 0 for a new consumer.
	Stored() mqttetl.Seq
	// Seek says that all up to after is durable in the stream and that reading
	// goes on after it. next is the first record that Next will return, later
	// than after+1 if that has been trimmed. A position beyond the log's last
	// record is an error that wraps mqttetl.ErrForeign.
	Seek(after mqttetl.Seq) (next mqttetl.Seq, err error)
	// Next waits for records and returns up to max of them, in order and
	// without holes, valid until the next call of Next or Seek. Any error but
	// that of ctx ends the forwarder.
	Next(ctx context.Context, max int) ([]mqttetl.Record, error)
	// Commit says that all up to upTo is durable in the stream. It does not block.
	Commit(upTo mqttetl.Seq)
	// DeadLetter keeps d, as durably as the next committed position.
	DeadLetter(d mqttetl.DeadLetter)
}

// Forwarder publishes the records of a log to a JetStream stream.
type Forwarder struct {
	cfg     Config
	records Log
	log     *slog.Logger
	metrics *Metrics

	// Used by the goroutine of Run only.
	backoff backoff.Backoff
	ackWait time.Duration // grows with timeouts, back to the first after progress
	fails   int           // attempts that failed one after the other without progress
	foreign string        // what stood last in the stream in place of our message
	singly  int           // messages to send one at a time, since there is another writer
	began   bool          // that a stream was found and forwarding began
	barren  barren        // nothing of ours is in the stream up to there
	dispute dispute       // about a record whose id is in use
	shared  bool          // there have been messages of others after ours
	doubt   mqttetl.Seq   // up to there another message may be in the place of a record
	forged  bool          // it was said that others use our ids

	// A record up to there was not acknowledged in its turn: what is gone from the
	// stream since may be another writer's, in its place.
	displaced mqttetl.Seq

	trouble trouble // of connecting, of finding the stream and of what it takes

	mu         sync.Mutex
	reached    bool // connected, and the stream was found as it must be
	refused    int  // failures of publishing in a row, nothing confirmed between
	inFlight   func() int
	reachErr   error       // why the stream is not reached
	publishErr error       // why it takes nothing
	cursor     mqttetl.Seq // all up to it is settled: confirmed, or a dead letter
	passed     mqttetl.Seq // the highest cursor there ever was
	progress   uint64      // moves of the cursor since the last failure
	claimed    mqttetl.Seq // see Stats
	skip       span        // settled records that the stream does not hold
	worth      string      // the durability stated last
	stuck      string      // servers whose replica takes nothing any more
}

// span is a run of records, from and to included; empty with to = 0.
type span struct{ from, to mqttetl.Seq }

// New checks cfg; it does not connect.
func New(cfg Config, log Log) (*Forwarder, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	return &Forwarder{
		cfg: cfg, records: log, log: cfg.Logger, metrics: cfg.Metrics,
		backoff: newBackoff(),
		ackWait: ackWaitFirst,
		trouble: trouble{log: cfg.Logger},
	}, nil
}

// fatal is an error that no further attempt can mend.
type fatal struct{ error }

func (e fatal) Unwrap() error { return e.error }

// Run forwards until ctx ends, and then returns nil. Errors of NATS are retried
// for ever, and so is a stream that is ahead of this log. It returns an error
// only if the log cannot be read.
func (f *Forwarder) Run(ctx context.Context) error {
	f.mu.Lock()
	f.cursor = f.records.Stored()
	f.passed = f.cursor
	f.mu.Unlock()
	for {
		err := f.session(ctx)
		var end fatal
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &end):
			return end.error
		}
		if !f.failed(ctx, reaching, err) {
			return nil
		}
	}
}

// session is the life of one connection. It returns why it ended.
func (f *Forwarder) session(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c, err := f.cfg.connect(ctx, cancel)
	if err != nil {
		return err
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.net.abort)()
	defer f.lost()
	for {
		how := reaching
		a, err := f.prepare(ctx, c)
		if err == nil {
			f.found()
			how = publishing
			err = f.try(ctx, a)
		}
		err = c.ended(err)
		var end fatal
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &end), errors.Is(err, errAckTimeout), errors.Is(err, errWrite), c.IsClosed():
			return err
		case errors.Is(err, errAgain):
			continue
		}
		if !f.failed(ctx, how, err) {
			return context.Cause(ctx)
		}
	}
}

// try runs the attempt with its window on show in Stats.
func (f *Forwarder) try(ctx context.Context, a *attempt) error {
	f.mu.Lock()
	f.inFlight = a.win.inFlight
	f.mu.Unlock()
	if !a.named {
		defer f.watchReplicas(ctx, a.conn)()
	}
	proven := time.AfterFunc(provenAfter, func() {
		if a.win.inFlight() == 0 {
			f.trouble.over()
		}
	})
	err := a.run(ctx)
	proven.Stop()
	if errors.Is(err, errDuplicate) || errors.Is(err, errSkipped) {
		f.displaced = max(f.displaced, a.sent)
	}
	if f.shared || errors.Is(err, errDuplicate) || errors.Is(err, errSkipped) || errors.As(err, new(*apiError)) {
		f.doubt = max(f.doubt, a.sent)
	}
	f.mu.Lock()
	f.inFlight = nil
	f.mu.Unlock()
	return err
}

// What an attempt was at when it failed.
const (
	reaching   = "reaching"   // connecting, finding the stream
	publishing = "publishing" // the stream takes what it gets
)

// failed counts and states an error and waits before the next attempt. It
// returns false when ctx has ended.
func (f *Forwarder) failed(ctx context.Context, what string, err error) bool {
	f.metrics.errors.Inc()
	f.mu.Lock()
	f.blame(what, err)
	if f.progress > 0 {
		f.fails, f.progress = 0, 0
		f.ackWait = ackWaitFirst
		f.backoff.Reset()
	}
	f.mu.Unlock()
	f.fails++
	if errors.Is(err, errAckTimeout) {
		f.ackWait = min(2*f.ackWait, ackWaitMax)
	}
	// Messages that were still under way when a connection was lost may be
	// stored later; the next attempt finds them. News only if it goes on.
	if judge(err) != chain || f.fails > 3 {
		f.trouble.state(err)
	}
	return f.backoff.Wait(ctx)
}
