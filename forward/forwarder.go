package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
)

// stage is the name of this stage in dead letters.
const stage = "forward"

// Log is the log as this consumer sees it. One goroutine at a time calls Seek
// and Next; Commit and DeadLetter may be called beside them.
type Log interface {
	// Stored is the position that the log last knew, 0 for a new consumer.
	Stored() mqttetl.Seq
	// Seek says that all up to after is durable in the stream and that reading
	// goes on behind it. next is the first record that Next will return, later
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
	unsure  unsure
	shared  bool        // there have been messages of others behind ours
	doubt   mqttetl.Seq // up to there another message may be in the place of a record
	forged  bool        // it was said that others use our ids

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

// Stats is the state of a Forwarder.
type Stats struct {
	Connected bool        // to a server, and the stream there can be used
	Cursor    mqttetl.Seq // all records up to it are confirmed or dead letters
	InFlight  int         // records sent and not confirmed
	LastError error       // what holds it up now, nil if nothing does
	Claimed   mqttetl.Seq // with Fresh, the highest record whose id is among the stream's last ones; anybody may have put it there
}

// refusedFor is after how many failures of publishing in a row, with nothing
// confirmed between, the stream counts as one that cannot be used. A message
// that lands behind our back costs an attempt, and is over with the next.
const refusedFor = 3

// singly is how many messages are sent one at a time after one of another
// writer has been seen, where messages follow one another by number only.
const singly = 1024

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

// Stats returns the present state.
func (f *Forwarder) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Stats{Connected: f.reached && f.refused < refusedFor, Cursor: f.cursor, Claimed: f.claimed, LastError: cmp.Or(f.reachErr, f.publishErr)}
	if f.inFlight != nil {
		s.InFlight = f.inFlight()
	}
	return s
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
	f.unsure = unsure{upTo: f.cursor + windowMessages} // what was in flight at a kill
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

// prepare finds where the stream ends and turns the log to there.
func (f *Forwarder) prepare(ctx context.Context, c *conn) (*attempt, error) {
	info, err := f.stream(ctx, c)
	if err != nil {
		return nil, err
	}
	pos, err := f.end(ctx, c, info)
	if err != nil {
		return nil, err
	}
	f.stateDurability(&info.Config)
	f.stateReplicas(info)
	contested, err := f.hear(ctx, c)
	if err != nil {
		return nil, err
	}
	passed, err := f.resume(c, pos)
	if err != nil {
		return nil, err
	}
	a := &attempt{
		f:       f,
		conn:    c,
		out:     newRaw(c),
		enc:     encoder{prefix: f.cfg.SubjectPrefix, logID: f.cfg.LogID, tag: newTagger(f.cfg.Key)},
		lim:     limitsOf(c, &info.Config),
		win:     newWindow(),
		inbox:   c.NewInbox(),
		acks:    make(chan *nats.Msg, windowMessages),
		base:    pos.last,
		before:  link{stream: pos.last},
		acked:   pos.last,
		held:    pos.held,
		proven:  pos.proven,
		claims:  pos.claims,
		dispute: contested,
		named:   !mayReplicate(info),
		every:   mayReplicate(info) || f.shared || pos.held != nil,
		passed:  passed,
		probing: true,
	}
	if a.sub, err = c.ChanSubscribe(a.inbox, a.acks); err != nil {
		return nil, unavailable("subscribe to acknowledgements", err)
	}
	// The publisher may overtake nats.go, and nobody would hear the first answer.
	if err := c.FlushTimeout(apiTimeout); err != nil {
		a.sub.Unsubscribe()
		return nil, unavailable("subscribe to acknowledgements", err)
	}
	return a, nil
}

// resume sets the cursor to where the stream ends and returns what had been
// settled before.
func (f *Forwarder) resume(c *conn, pos position) (passed mqttetl.Seq, err error) {
	f.mu.Lock()
	before, after := f.cursor, pos.ours
	passed = f.passed
	if !pos.mine {
		after = before
	}
	if f.skip.to > after && f.skip.from <= after+1 {
		after = f.skip.to
	}
	f.mu.Unlock()

	next, err := f.records.Seek(after)
	switch {
	case errors.Is(err, mqttetl.ErrForeign):
		// Its tag is ours. To go on would give other records the same ids.
		return 0, mqttetl.WithHint(
			fmt.Errorf("stream %s holds record %d of log %s: %w", f.cfg.Stream, after, f.cfg.LogID, err),
			"the log was put back to an older copy, or its id is used twice; restore the newer log, or forward to another stream")
	case err != nil:
		return 0, fatal{fmt.Errorf("seek in the log: %w", err)}
	}
	if pos.shared {
		f.singly, f.shared = singly, true
	}
	if pos.held != nil {
		f.doubt = max(f.doubt, pos.held.last)
	}
	f.stateResume(c, pos, after)
	if next > after+1 {
		f.metrics.missing.Add(float64(next - after - 1))
		f.log.Warn("records between the stream's end and the log's beginning are gone, they will not be forwarded",
			"from", after+1, "to", next-1, "stream", f.cfg.Stream)
		after = next - 1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began && after > before { // stored, but the acknowledgement was lost
		f.metrics.forwarded.Add(float64(after - before))
	}
	f.began = true
	f.cursor = after
	f.passed = max(passed, after)
	return passed, nil
}

// alone says whether the next message of a is to be acknowledged before the one
// after it is sent.
func (f *Forwarder) alone(a *attempt) bool {
	if a.named || f.singly == 0 {
		return false
	}
	f.singly--
	return true
}

// stateResume says once where forwarding begins, and later when the stream no
// longer tells.
func (f *Forwarder) stateResume(c *conn, pos position, after mqttetl.Seq) {
	args := []any{"stream", f.cfg.Stream, "after", after, "server", c.server()}
	switch {
	case pos.mine && !f.began:
		f.log.Info("forwarding to NATS after the stream's last message of this log", args...)
	case pos.held != nil:
		f.log.Warn("another writer publishes to the stream: it has taken the place of records, which are stored after later ones",
			"stream", f.cfg.Stream, "first", after+1, "stand_after", pos.held.last)
	case !pos.mine && pos.by != f.foreign:
		said := "the stream's last message is not of this log: forwarding after the stored position"
		if pos.by == nobody {
			said = "the stream is empty: forwarding after the stored position"
		} else {
			args = append(args, "last", pos.by)
		}
		f.log.Info(said, args...)
	}
	f.foreign = pos.by
}

// stateDurability says what an acknowledgement is worth, when that is news.
func (f *Forwarder) stateDurability(sc *jetstream.StreamConfig) {
	text, weak := durability(sc)
	f.mu.Lock()
	before := f.worth
	f.worth = text
	f.mu.Unlock()
	if text == before {
		return
	}
	level := slog.LevelInfo
	if weak {
		level = slog.LevelWarn
	}
	f.log.Log(context.Background(), level, "stream "+sc.Name+": "+text, "replicas", sc.Replicas, "storage", sc.Storage.String())
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
	f.leave(a)
	if f.shared || errors.Is(err, errDuplicate) || errors.Is(err, errSkipped) || errors.As(err, new(*refusal)) {
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
	// Messages that were still under way when a connection was lost land
	// behind our back; the next attempt finds them. News only if it goes on.
	if judge(err) != chain || f.fails > 3 {
		f.trouble.state(err)
	}
	return f.backoff.Wait(ctx)
}

// confirmed settles what an acknowledgement has spoken for.
func (f *Forwarder) confirmed(m mark) {
	f.settle(m.record)
	f.trouble.over()
	f.metrics.forwarded.Add(float64(m.messages))
	f.metrics.ackSeconds.Observe(time.Since(m.at).Seconds())
}

// settle moves the cursor up to seq.
func (f *Forwarder) settle(seq mqttetl.Seq) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cursor = seq
	f.passed = max(f.passed, seq)
	f.progress++
	f.publishErr, f.refused = nil, 0
	f.records.Commit(seq)
}

// pass settles a record that the stream will not hold behind the one before
// it, so that the stream's last message is not taken for where to resume.
func (f *Forwarder) pass(seq mqttetl.Seq) {
	f.mu.Lock()
	if f.skip.to+1 != seq {
		f.skip.from = seq
	}
	f.skip.to = seq
	f.mu.Unlock()
	f.settle(seq)
}

// bury makes a record a dead letter; all before it is settled. A record at or
// before passed has been settled before, and is a dead letter already unless
// the stream has lost it since and now takes less.
func (f *Forwarder) bury(seq mqttetl.Seq, why string, passed mqttetl.Seq) {
	if seq <= passed {
		f.log.Warn("a record that was settled before cannot be forwarded", "seq", seq, "reason", why)
		f.pass(seq)
		return
	}
	f.log.Warn("a record cannot be forwarded: dead letter", "seq", seq, "reason", why)
	f.records.DeadLetter(mqttetl.DeadLetter{Seq: seq, Stage: stage, Reason: why, Time: time.Now().UnixNano()})
	f.metrics.deadLetters.Inc()
	f.pass(seq)
}

// blame keeps err as what holds forwarding up. mu is held.
func (f *Forwarder) blame(what string, err error) {
	if what == reaching {
		f.reached, f.reachErr = false, err
		return
	}
	f.publishErr = err
	f.refused++
}

// found notes that the stream is there and as it must be.
func (f *Forwarder) found() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reached, f.reachErr = true, nil
}

// lost notes that the connection has ended.
func (f *Forwarder) lost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reached = false
}
