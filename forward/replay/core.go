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
	answer    chan error // of the open question; nil: none is open
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
			return &RefusedError{r.Seq, err}
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

// ask lets everything leave, waits for the answer to the open question and puts
// the next.
func (c *Core) ask(ctx context.Context) error {
	if err := c.push(); err != nil {
		return err
	}
	if err := c.settle(); err != nil {
		return err
	}
	answer, about := make(chan error, 1), c.sent
	go func() {
		err := c.out.Flush(ctx)
		if err == nil {
			c.confirmed(about.last, about.n)
		}
		answer <- err
	}()
	c.answer, c.sent, c.bytes, c.asked = answer, part{}, 0, time.Now()
	return nil
}

func (c *Core) push() error {
	if err := c.out.Push(); err != nil {
		return unavailable("publish to NATS", err)
	}
	return nil
}

// settle waits for the answer to the open question.
func (c *Core) settle() error {
	if c.answer == nil {
		return nil
	}
	err := <-c.answer
	c.answer = nil
	return err
}

// Flush implements Destination. It asks now and then, and does not wait for an
// answer: the next record may be due before it comes.
func (c *Core) Flush(ctx context.Context) error {
	unanswered := c.answer != nil && len(c.answer) == 0
	if unanswered || c.sent.n == 0 || time.Since(c.asked) < coreIdle {
		return c.push()
	}
	return c.ask(ctx)
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
	c.out.Close() // which is an answer
	if c.answer != nil {
		<-c.answer
	}
	return nil
}
