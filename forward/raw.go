package forward

import (
	"errors"
	"fmt"
	"net"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// rawPublisher puts messages on the wire in the order of the calls. It writes the
// frames itself, past nats.go, whose headers are maps that it sorts and copies for
// every message. It shares the connection: both write whole commands only. After
// an error that wraps errWrite the connection is of no more use.
type rawPublisher struct {
	conn   net.Conn
	max    int64 // the server's max_payload
	buf    []byte
	frames natsmsg.Framer
}

const (
	rawBuffer = 128 << 10 // bytes that leave in one write
)

// errWrite says that half a command may be on the wire.
var errWrite = errors.New("connection given up")

func newRaw(c *conn) *rawPublisher { return &rawPublisher{conn: c.net.shared, max: c.MaxPayload()} }

// publish copies a message; it leaves with flush, or when there is enough. reply is
// where an answer is wanted, "" for none.
func (p *rawPublisher) publish(m *natsmsg.Message, reply string) error {
	if int64(m.Size()) > p.max {
		return nats.ErrMaxPayload
	}
	b := p.frames.AppendPub(p.buf, m, reply)
	if p.buf = b; len(b) < rawBuffer {
		return nil
	}
	return p.flush()
}

// flush writes what there is.
func (p *rawPublisher) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	_, err := p.conn.Write(p.buf)
	if p.buf = p.buf[:0]; cap(p.buf) > 4<<20 {
		p.buf = nil
	}
	if err != nil {
		return unavailable("publish to NATS", fmt.Errorf("%w: %w", errWrite, err))
	}
	return nil
}
