package forward

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// rawPublisher puts messages on the wire in the order of the calls. It writes the
// protocol itself, past nats.go, whose headers are maps that it sorts and copies for
// every message. It shares the connection: both write whole commands only. After
// an error that wraps errWrite the connection is of no more use.
//
// See https://docs.nats.io/reference/reference-protocols/nats-protocol, HPUB.
type rawPublisher struct {
	conn net.Conn
	max  int64 // the server's max_payload
	buf  []byte

	header, total int // of the message before
	end           []byte
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
	b := append(append(p.buf, "HPUB "...), m.Subject...)
	if reply != "" {
		b = append(append(b, ' '), reply...)
	}
	b = append(p.sizes(b, len(m.Header), m.Size()), m.Header...)
	b = append(append(b, m.Body...), "\r\n"...)
	if p.buf = b; len(b) < rawBuffer {
		return nil
	}
	return p.flush()
}

// sizes appends the end of the command's line. Most messages are as long as the
// one before.
func (p *rawPublisher) sizes(b []byte, header, total int) []byte {
	if header != p.header || total != p.total {
		p.header, p.total = header, total
		p.end = strconv.AppendInt(append(p.end[:0], ' '), int64(header), 10)
		p.end = strconv.AppendInt(append(p.end, ' '), int64(total), 10)
		p.end = append(p.end, "\r\n"...)
	}
	return append(b, p.end...)
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
