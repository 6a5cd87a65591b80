package ingest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// chunks is a net.Conn that gives its bytes in pieces of the given sizes and
// takes whatever is written.
type chunks struct {
	net.Conn
	data    []byte
	sizes   []byte
	next    int
	written bytes.Buffer
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	size := len(c.data)
	if len(c.sizes) > 0 {
		size = 1 + int(c.sizes[c.next%len(c.sizes)])
		c.next++
	}
	n := copy(p[:min(len(p), size)], c.data)
	c.data = c.data[n:]
	return n, nil
}

func (c *chunks) Write(p []byte) (int, error)      { return c.written.Write(p) }
func (c *chunks) Close() error                     { return nil }
func (c *chunks) SetWriteDeadline(time.Time) error { return nil }

// instantLog commits within Append.
type instantLog struct{ records int }

func (l *instantLog) Append(b *mqttetl.Batch) {
	if _, err := mqttetl.DecodeRecords(nil, b.Bytes(), b.Len(), 1, b.Source); err != nil {
		panic(err)
	}
	l.records += b.Len()
	b.Done(1, nil)
}

func (l *instantLog) Hurry() {}

func (l *instantLog) PacketIDs(string) ([]uint16, error) { return nil, nil }

func (l *instantLog) Note(string) ([]byte, error) { return nil, nil }

// FuzzConn feeds arbitrary bytes in arbitrary pieces. Whatever comes: nothing
// panics, memory follows what was received, and the outcome does not depend on
// the pieces.
func FuzzConn(f *testing.F) {
	connack := []byte{wire.Connack << 4, 3, 1, 0, 0}
	for _, frame := range [][]byte{
		publishFrame(true, 2, 1, "a/b", []byte{1, 1}, []byte("payload")),
		publishFrame(true, 4, 7, "a", nil, nil),
		{wire.Pubrel<<4 | 2, 2, 0, 7},
		{wire.Pingresp << 4, 0, wire.Suback << 4, 4, 0, 1, 0, 0},
		publishFrame(true, 0, 0, "long", nil, make([]byte, session.MinPacket)),
		{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a', 0xff, 0xff, 0xff, 0x7f},
	} {
		f.Add(append(bytes.Clone(connack), frame...), []byte{3}, true)
		f.Add(append([]byte{wire.Connack << 4, 2, 1, 0}, frame...), []byte{0, 9}, false)
	}
	f.Fuzz(func(t *testing.T, data, sizes []byte, v5 bool) {
		whole, wholeErr := feed(t, data, nil, v5)
		pieces, piecesErr := feed(t, data, sizes, v5)
		if whole.records != pieces.records || wholeErr.Error() != piecesErr.Error() {
			t.Fatalf("whole: %d records, %v; in pieces: %d records, %v", whole.records, wholeErr, pieces.records, piecesErr)
		}
	})
}

// feed reads data to its end as a control plane would.
func feed(t *testing.T, data, sizes []byte, v5 bool) (*instantLog, error) {
	log := &instantLog{}
	l := newTestLink(t, log, nil)
	c := newConn(&chunks{data: data, sizes: sizes}, l, v5)
	_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
	if err == nil {
		t.Fatal("no reason for the end")
	}
	l.session.Wait()
	var r *refusal
	if errors.As(err, &r) {
		_ = r.Error()
	}
	return log, err
}
