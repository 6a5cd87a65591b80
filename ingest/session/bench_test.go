package session

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// endless is a stream that gives the same bytes n times, once a read, and calls
// before in between.
type endless struct {
	net.Conn
	block  []byte
	n      int
	before func()
}

func (e *endless) Read(p []byte) (int, error) {
	if e.before != nil {
		e.before()
	}
	if e.n == 0 {
		return 0, io.EOF
	}
	e.n--
	return copy(p, e.block), nil
}

func (e *endless) Write(p []byte) (int, error)      { return len(p), nil }
func (e *endless) Close() error                     { return nil }
func (e *endless) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkConn is the way of a message from the socket's bytes into the batch,
// and of its acknowledgement back, with a log that commits at once. One
// operation is one message.
func BenchmarkConn(b *testing.B) {
	for _, payload := range []int{16, 128, 1024} {
		for _, qos := range []byte{0, 1} {
			b.Run(fmt.Sprintf("payload=%d/qos=%d", payload, qos), func(b *testing.B) {
				const messages = 200 // a block, within one read
				var block []byte
				for id := uint16(1); id <= messages; id++ {
					block = append(block, publishFrame(true, qos<<1, id, "factory/line1/temperature", nil, make([]byte, payload))...)
				}
				stream := &endless{block: block, n: (b.N + messages - 1) / messages}
				c, s := benchConn(stream)
				stream.before = c.writer.flush
				b.SetBytes(int64(len(block) / messages))
				b.ReportAllocs()
				b.ResetTimer()
				var err error
				for err == nil {
					err = c.Step()
				}
				b.StopTimer()
				if err != ErrClosed {
					b.Fatal(err)
				}
				s.Wait()
			})
		}
	}
}

// BenchmarkAckWriter is the way of one acknowledgement from Done to the socket,
// 1,000 a batch.
func BenchmarkAckWriter(b *testing.B) {
	const batch = 1000
	c, s := benchConn(&endless{})
	var acks []byte
	for id := uint16(1); id <= batch; id++ {
		acks = wire.AppendAck(acks, wire.Puback, id)
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		c.writer.due.add(acks, 1)
		c.writer.flush()
		c.writer.due.writtenSince(c.reader.ids.release)
	}
	c.Fail(net.ErrClosed)
	s.Wait()
}

func benchConn(nc net.Conn) (*Conn, *Session) {
	s, _ := newSession(countingLog{}, func(cfg *Config) { cfg.ReceiveMaximum = 65535 })
	c := s.Conn(nc, true, everything{})
	_, _ = c.Begin(true, true, false)
	return c, s
}

// countingLog commits within Append and looks at nothing.
type countingLog struct{}

func (countingLog) Append(b *mqttetl.Batch)            { b.Done(1, nil) }
func (countingLog) Hurry()                             {}
func (countingLog) PacketIDs(string) ([]uint16, error) { return nil, nil }
