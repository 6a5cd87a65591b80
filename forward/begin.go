package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

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
		enc:     natsmsg.Encoder{Prefix: f.cfg.SubjectPrefix, LogID: f.cfg.LogID, Tag: natsmsg.NewTagger(f.cfg.Key)},
		lim:     limitsOf(c, &info.Config),
		win:     newWindow(f.ackWait / 8),
		inbox:   c.NewInbox(),
		acks:    make(chan *nats.Msg, windowMessages),
		base:    pos.last,
		before:  natsmsg.Link{Stream: pos.last},
		acked:   pos.last,
		held:    pos.held,
		proven:  pos.proven,
		claims:  pos.claims,
		dispute: contested,
		named:   !mayReplicate(info),
		every:   mayReplicate(info) || f.shared || pos.held != nil || thins(&info.Config),
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
		f.trouble.say(slog.LevelWarn, "records between the stream's end and the log's beginning are gone, they will not be forwarded",
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

// singly is how many messages are sent one at a time after one of another
// writer has been seen, where messages follow one another by number only.
const singly = 1024

// alone says whether the next message of a is to be acknowledged before the one
// after it is sent.
func (f *Forwarder) alone(a *attempt) bool {
	if a.named || f.singly == 0 {
		return false
	}
	f.singly--
	return true
}
