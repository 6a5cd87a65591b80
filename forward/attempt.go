package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

const (
	// nextMax is how many records are taken from the log at a time.
	nextMax = 1024
	// Every so many messages or bytes one asks for an acknowledgement, which
	// speaks for all before it.
	markMessages = 64
	markBytes    = windowBytes / 8
	// A log that brings that many records at a time brings more at once: they
	// are gathered for a moment, because each round of Next, write and
	// acknowledgement costs as much as many messages. Fewer are sent as they
	// come, a flood as fast as it can be read.
	trickle, flood = 16, 256
	gathering      = time.Millisecond
	justCome       = 5 * time.Millisecond
	// ackWaitFirst is how long an acknowledgement may take, while none comes,
	// before the connection is given up. It doubles each time it was too
	// short, so that a large message passes a slow line in the end.
	ackWaitFirst = 5 * time.Second
	ackWaitMax   = 2 * time.Minute
)

var (
	errAckTimeout = errors.New("no acknowledgement")
	errDuplicate  = errors.New("JetStream has the message already, elsewhere in the stream")
	// errSkipped: the message before the one that is acknowledged is not.
	errSkipped = errors.New("a message was acknowledged out of turn, another may be in the place of the one before it")
	// errAgain ends an attempt that has settled a record and has to find out
	// where the stream ends before the next.
	errAgain = errors.New("go on from the stream's end")
)

// An attempt sends records in order from where the stream ends, until the
// first error. It begins with one message alone: its answer shows that the
// stream still ends there, and an error can be about no other record.
type attempt struct {
	f       *Forwarder
	conn    *conn
	out     *rawPublisher
	enc     natsmsg.Encoder
	lim     limits
	win     *window
	inbox   string // where acknowledgements come to
	sub     *nats.Subscription
	acks    chan *nats.Msg // never full: fewer are asked for than the window holds
	base    uint64         // the stream's last message when the attempt began
	before  natsmsg.Link   // what the next message must follow
	named   bool           // it follows a record, not a number
	every   bool           // each message asks for an acknowledgement
	acked   uint64         // the stream's message that was acknowledged last
	held    *held          // what the stream holds beyond where the attempt begins
	sent    mqttetl.Seq    // the last record that it has sent
	proven  uint64         // number of our last message in the stream when it begins
	claims  claims         // later messages that may be records
	dispute dispute
	passed  mqttetl.Seq // what had been settled before, at any time
	said    bool        // that some of it is published again
	probing bool        // nothing has been confirmed yet
}

// run sends until ctx ends or something fails, and returns why.
func (a *attempt) run(ctx context.Context) error {
	defer a.sub.Unsubscribe()
	ctx, cancel := context.WithCancelCause(ctx)
	received := make(chan struct{})
	go func() {
		defer close(received)
		cancel(a.receive(ctx))
	}()
	cancel(a.send(ctx))
	<-received
	a.f.metrics.inFlight.Set(0)
	return a.conclude(context.Cause(ctx))
}

// conclude settles the record that was alone in flight if err is about it.
func (a *attempt) conclude(err error) error {
	m, ok := a.win.alone()
	if !ok {
		return err
	}
	switch {
	case errors.As(err, new(duplicate)):
		dup, _ := errors.AsType[duplicate](err)
		return a.f.contest(m.record, dup.of)
	case judge(err) == bury:
		a.f.bury(m.record, err.Error(), a.passed)
		return errAgain
	}
	return err
}

func (a *attempt) send(ctx context.Context) error {
	for {
		records, err := a.f.records.Next(ctx, nextMax)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fatal{fmt.Errorf("read the log: %w", err)}
		}
		for i := range records {
			// What follows may have to wait for all before it.
			urgent := i == len(records)-1 || a.lim.large(&records[i+1])
			if err := a.sendOne(ctx, &records[i], urgent); err != nil {
				return err
			}
		}
		a.f.metrics.inFlight.Set(float64(a.win.inFlight()))
		if trickles(records) {
			backoff.Pause(ctx, gathering)
		}
	}
}

// trickles says whether records come fast, but few at a time, and more are about
// to come. Those of a backlog are older: a few large ones of it are no trickle.
func trickles(records []mqttetl.Record) bool {
	n := len(records)
	return n >= trickle && n < flood && time.Since(records[n-1].When()) < justCome
}

// sendOne sends a record, or makes it a dead letter once all before it is
// confirmed: a dead letter is kept together with a position after it.
func (a *attempt) sendOne(ctx context.Context, rec *mqttetl.Record, urgent bool) error {
	if a.held.holds(rec.Seq) {
		return a.skip(ctx, rec.Seq)
	}
	a.before.Late = a.held.lateBehind(rec.Seq)
	a.enc.Zeros = 0
	m := a.enc.EncodeAfter(rec, a.before)
	if a.probing {
		done, err := a.examine(ctx, rec, m)
		if done || err != nil {
			return err
		}
		m = a.enc.EncodeAfter(rec, a.before) // perhaps under another id
	}
	if why := a.lim.exceeded(m); why != "" {
		if err := a.win.drain(ctx); err != nil {
			return err
		}
		a.f.bury(rec.Seq, why, a.passed)
		return context.Cause(ctx) // whoever keeps the dead letter may have ended it all
	}
	if rec.Seq <= a.passed && !a.said {
		a.said = true
		a.f.trouble.say(slog.LevelWarn, "the stream has lost messages that were confirmed: publishing them again",
			"from", rec.Seq, "to", a.passed, "stream", a.f.cfg.Stream)
	}
	if err := a.win.reserve(ctx, m.Size()); err != nil {
		return err
	}
	contested := a.enc.Zeros > 0
	alone, first := a.probing || a.f.alone(a), a.win.inFlight() == 0
	messages, bytes := a.win.unmarked()
	// The first one, too: somebody who has used its id before has had the time for it.
	due := urgent || alone || first || messages+1 >= markMessages || bytes+m.Size() >= markBytes
	reply := ""
	if due || a.every {
		reply = a.inbox
	}
	a.before = natsmsg.Link{Stream: a.before.Stream + 1}
	if a.named && a.enc.Zeros == 0 {
		a.before.Record = rec.Seq
	}
	a.sent = rec.Seq
	a.win.add(a.before.Stream, rec.Seq, m.Size(), reply != "")
	if err := a.out.publish(m, reply); err != nil {
		return err
	}
	if !due {
		return nil
	}
	if err := a.out.flush(); err != nil { // what the window waits for has left
		return err
	}
	if !alone {
		return nil
	}
	a.probing = contested // then the next one may be contested, too
	return a.win.drain(ctx)
}

// skip settles a record that the stream holds already, and all before it.
func (a *attempt) skip(ctx context.Context, seq mqttetl.Seq) error {
	if err := a.win.drain(ctx); err != nil {
		return err
	}
	a.f.settle(seq)
	a.f.metrics.forwarded.Inc()
	return nil
}

// receive takes acknowledgements until ctx ends or one is bad or overdue.
func (a *attempt) receive(ctx context.Context) error {
	wait := a.f.ackWait
	defer a.win.overdue.Stop()
	for {
		select {
		case m := <-a.acks:
			if err := a.confirm(m); err != nil {
				return err
			}
		case now := <-a.win.overdue.C:
			if a.win.waiting(now) > wait {
				return unavailable("publish to stream "+a.f.cfg.Stream, fmt.Errorf("%w within %v", errAckTimeout, wait))
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// confirm takes an acknowledgement and all that have come with it, and commits
// the position once for them.
func (a *attempt) confirm(m *nats.Msg) error {
	var upTo uint64
	var err error
	for {
		var seq uint64
		if seq, err = a.accept(m); err != nil {
			break
		}
		upTo = max(upTo, seq)
		if len(a.acks) == 0 {
			break
		}
		m = <-a.acks
	}
	if mk, ok := a.win.spoken(upTo); ok {
		a.f.confirmed(mk)
		a.win.release(mk)
		a.f.metrics.inFlight.Set(float64(a.win.inFlight()))
	}
	return err
}

// accept returns the stream's number that the acknowledgement speaks for.
func (a *attempt) accept(m *nats.Msg) (uint64, error) {
	ans, err := answer{Stream: a.f.cfg.Stream}, error(nil)
	if ans.Seq = plainAck(m.Data, a.f.cfg.Stream); ans.Seq == 0 {
		ans, err = parseAnswer(m)
	}
	switch {
	case err != nil:
		return 0, err
	case ans.Duplicate:
		return 0, duplicate{ans.Seq}
	case ans.Stream != a.f.cfg.Stream:
		return 0, fmt.Errorf("stream %s takes our subjects, not %s: %w", ans.Stream, a.f.cfg.Stream, mqttetl.ErrUnavailable)
	case ans.Seq <= a.base:
		return 0, fmt.Errorf("acknowledgement of message %d, the stream ended at %d before it: %w", ans.Seq, a.base, mqttetl.ErrUnavailable)
	case a.every && ans.Seq != a.acked+1, !a.every && !a.win.asks(ans.Seq):
		return 0, errSkipped
	}
	a.acked = ans.Seq
	return ans.Seq, nil
}
