package ingest

import (
	"fmt"
	"io"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// endless is a stream that gives the same bytes n times, once a read, and calls
// before in between.
type endless struct {
	chunks
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

func (e *endless) Write(p []byte) (int, error) { return len(p), nil }

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
				l := newTestLink(b, countingLog{}, func(l *link) { l.receiveMaximum = 65535 })
				blocks := (b.N + messages - 1) / messages
				stream := &endless{block: []byte{typeConnack << 4, 3, 1, 0, 0}, n: 1}
				c := newConn(stream, l, true)
				p := make([]byte, 64)
				if _, err := c.Read(p); err != nil {
					b.Fatal(err)
				}
				stream.block, stream.n, stream.before = block, blocks, c.flushAcks
				b.SetBytes(int64(len(block) / messages))
				b.ReportAllocs()
				b.ResetTimer()
				if _, err := c.Read(p); err != errClosedByBroker {
					b.Fatal(err)
				}
				b.StopTimer()
				l.tasks.Wait()
			})
		}
	}
}

// BenchmarkAckWriter is the way of one acknowledgement from Done to the socket,
// 1,000 a batch.
func BenchmarkAckWriter(b *testing.B) {
	const batch = 1000
	l := newTestLink(b, countingLog{}, nil)
	c := newConn(&endless{}, l, true)
	var acks []byte
	for id := uint16(1); id <= batch; id++ {
		acks = appendAck(acks, typePuback, id)
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		c.acks.add(acks, 1)
		c.flushAcks()
		c.acks.writtenSince(c.ids.release)
	}
	_ = c.Close()
	l.tasks.Wait()
}

// countingLog commits within Append and looks at nothing.
type countingLog struct{}

func (countingLog) Append(b *mqttetl.Batch)            { b.Done(1, nil) }
func (countingLog) Hurry()                             {}
func (countingLog) PacketIDs(string) ([]uint16, error) { return nil, nil }

func (countingLog) Note(string) ([]byte, error) { return nil, nil }
