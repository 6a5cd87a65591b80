package replay

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
)

const (
	coreWindow      = 8192 // messages between two questions, of which one may be open
	coreWindowBytes = 8 << 20
	coreIdle        = 50 * time.Millisecond // how soon a pause is used to ask
)

// Core plays records as core NATS messages. Whoever listens gets them; the
// server's answer to a ping behind them confirms that it has read them.
type Core struct {
	out       *forward.Core
	confirmed Confirm
	sent      part // since the last question
	bytes     int
	open      part       // what the open question is about
	answer    chan error // nil: none is open
	asked     time.Time
}

// part is a run of messages.
type part struct {
	last mqttetl.Seq
	n    int
}

// OpenCore connects. down is called when the connection is lost.
func OpenCore(ctx context.Context, cfg forward.Config, confirmed Confirm, down func(error)) (*Core, error) {
	out, err := forward.OpenCore(ctx, cfg, down)
	if err != nil {
		return nil, err
	}
	return &Core{out: out, confirmed: confirmed, asked: time.Now()}, nil
}

// Send implements Destination.
func (c *Core) Send(ctx context.Context, r *mqttetl.Record) error {
	if err := c.out.Publish(r); err != nil {
		if errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject) || errors.Is(err, nats.ErrBadHeaderMsg) {
			return &Refusal{r.Seq, err}
		}
		return unavailable("publish to NATS", err)
	}
	c.sent.last = r.Seq
	c.sent.n++
	c.bytes += len(r.Payload)
	if c.sent.n < coreWindow && c.bytes < coreWindowBytes {
		return nil
	}
	return c.ask(ctx)
}

// ask waits for the answer to the open question and puts the next.
func (c *Core) ask(ctx context.Context) error {
	if err := c.settle(); err != nil {
		return err
	}
	if err := c.out.Push(); err != nil {
		return unavailable("publish to NATS", err)
	}
	answer := make(chan error, 1)
	go func() { answer <- c.out.Flush(ctx) }()
	c.open, c.answer = c.sent, answer
	c.sent, c.bytes, c.asked = part{}, 0, time.Now()
	return nil
}

// settle waits for the answer to the open question.
func (c *Core) settle() error {
	if c.answer == nil {
		return nil
	}
	err := <-c.answer
	if c.answer = nil; err != nil {
		return err
	}
	c.confirmed(c.open.last, c.open.n)
	return nil
}

// Flush implements Destination.
func (c *Core) Flush(ctx context.Context) error {
	if time.Since(c.asked) >= coreIdle {
		return c.Drain(ctx)
	}
	if err := c.out.Push(); err != nil {
		return unavailable("publish to NATS", err)
	}
	return nil
}

// Drain implements Destination.
func (c *Core) Drain(ctx context.Context) error {
	if c.sent.n > 0 {
		if err := c.ask(ctx); err != nil {
			return err
		}
	}
	return c.settle()
}

// Close implements Destination.
func (c *Core) Close() error {
	c.out.Close()
	return nil
}
