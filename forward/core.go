package forward

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// Core publishes records as core NATS messages: with the subjects and headers
// of the forwarder but for the chain, to whoever listens now, and without an
// answer a message. It belongs to one goroutine.
type Core struct {
	conn   *conn
	closed *atomic.Bool
	enc    natsmsg.Encoder
	out    *rawPublisher
}

// OpenCore connects. cfg.Stream does not matter. down is called once with the
// reason when the connection is lost or the server rejects something; the
// connection is not made anew.
func OpenCore(ctx context.Context, cfg Config, down func(error)) (*Core, error) {
	if err := errors.Join(cfg.checkURL(), checkPrefix(cfg.SubjectPrefix), cfg.checkRest()); err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	closed := &atomic.Bool{}
	c, err := cfg.connect(ctx, func(err error) {
		if !closed.Load() {
			down(err)
		}
	})
	if err != nil {
		return nil, err
	}
	if !c.HeadersSupported() {
		c.close()
		return nil, fmt.Errorf("%s: %w", c.server(), nats.ErrHeadersNotSupported)
	}
	return &Core{conn: c, closed: closed, enc: natsmsg.Encoder{Prefix: cfg.SubjectPrefix, LogID: cfg.LogID}, out: newRaw(c)}, nil
}

// Publish puts a record into a buffer, which leaves with Push. It has copied the
// record when it returns. A record that is larger
// than the server takes is an error that wraps nats.ErrMaxPayload.
func (c *Core) Publish(rec *mqttetl.Record) error {
	return c.out.publish(c.enc.Encode(rec), "")
}

// Push lets everything that was published leave.
func (c *Core) Push() error {
	return c.out.flush()
}

// Flush waits until the server has read everything that has been pushed. It may
// be called beside the other methods.
func (c *Core) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := c.conn.FlushWithContext(ctx); err != nil {
		return unavailable("publish to NATS", err)
	}
	return nil
}

// Close drops the connection, with what Flush has not seen through.
func (c *Core) Close() {
	c.closed.Store(true)
	c.conn.close()
}
