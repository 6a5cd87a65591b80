package session

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// testWriter is a writer over TCP without its goroutine, the other end, and what
// it says of written acknowledgements.
func testWriter(t *testing.T) (w *writer, other net.Conn, written *[]byte) {
	ours, other := tcpPair(t)
	t.Cleanup(func() { _ = ours.Close(); _ = other.Close() })
	written = new([]byte)
	w = newWriter(ours, make(chan struct{}), func([]byte) {}, func(acks []byte, _ []int64, err error) {
		if err == nil {
			*written = append(*written, acks...)
		}
	})
	return w, other, written
}

// TestWriter: what leaves, and what a step leaves to the goroutine.
func TestWriter(t *testing.T) {
	due := func(id uint16) func(*writer) { return func(w *writer) { w.due.add(puback(id), 1) } }
	now, flush := (*writer).flushNow, (*writer).flush
	ping := func(w *writer) { _ = w.send([]byte{wire.Pingreq << 4, 0}) }
	goodbye := func(w *writer) { w.sayGoodbye([]byte{wire.Disconnect << 4, 0}) }
	tls := func(w *writer) { w.socket = nil } // there is no socket to be written at once
	held := func(w *writer) { w.mu.Lock(); defer w.mu.Unlock(); w.flushNow() }
	end := func(w *writer) { close(w.closed) }
	for name, tt := range map[string]struct {
		steps   []func(*writer)
		want    []byte
		acked   []byte
		signals int
	}{
		"nothing due":                {[]func(*writer){now, flush}, nil, nil, 0},
		"at once":                    {[]func(*writer){due(1), due(2), now}, puback(1, 2), puback(1, 2), 0},
		"once":                       {[]func(*writer){due(1), now, now, flush}, puback(1), puback(1), 0},
		"without a socket":           {[]func(*writer){tls, due(1), now}, nil, nil, 1},
		"without a socket, later":    {[]func(*writer){tls, due(1), now, flush}, puback(1), puback(1), 1},
		"the lock is held":           {[]func(*writer){due(1), held}, nil, nil, 1},
		"before a packet":            {[]func(*writer){due(1), now, ping}, append(puback(1), wire.Pingreq<<4, 0), puback(1), 0},
		"a packet does not flush":    {[]func(*writer){due(1), ping}, []byte{wire.Pingreq << 4, 0}, nil, 0},
		"nothing after goodbye":      {[]func(*writer){goodbye, due(1), now, flush, ping, goodbye}, []byte{wire.Disconnect << 4, 0}, nil, 0},
		"nothing after the end":      {[]func(*writer){end, due(1), now, flush}, nil, nil, 0},
		"an empty packet is no byte": {[]func(*writer){func(w *writer) { _ = w.send(nil) }}, nil, nil, 0},
	} {
		w, other, written := testWriter(t)
		for _, step := range tt.steps {
			step(w)
		}
		_ = w.nc.Close()
		if got, _ := io.ReadAll(other); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: wrote % x, want % x", name, got, tt.want)
		}
		if !bytes.Equal(*written, tt.acked) || len(w.signal) != tt.signals {
			t.Errorf("%s: acknowledged % x with %d signals, want % x and %d", name, *written, len(w.signal), tt.acked, tt.signals)
		}
	}
}

// moreThanFits is so many acknowledgements that a socket with fewBuffers cannot
// take them while the other side does not read.
const moreThanFits = 1 << 17

// fewBuffers makes the buffers between nc and other, the two ends of a connection, small.
func fewBuffers(t *testing.T, nc, other net.Conn) {
	t.Helper()
	if err := errors.Join(nc.(*net.TCPConn).SetWriteBuffer(4<<10), other.(*net.TCPConn).SetReadBuffer(64<<10)); err != nil {
		t.Fatal(err)
	}
}

// manyAcks are moreThanFits of them, in order.
func manyAcks() (acks []byte) {
	for id := range moreThanFits {
		acks = wire.AppendAck(acks, wire.Puback, uint16(id))
	}
	return acks
}

// TestWriterNeverWaits has flushNow meet a socket that is full: it returns with
// the lock free, and whoever writes next writes first what was left.
func TestWriterNeverWaits(t *testing.T) {
	for name, next := range map[string]func(*writer){
		"a packet":       func(w *writer) { _ = w.send([]byte{wire.Pingreq << 4, 0}) },
		"the goroutine":  (*writer).flush,
		"a goodbye":      func(w *writer) { w.sayGoodbye([]byte{wire.Disconnect << 4, 0}) },
		"all of them":    func(w *writer) { w.flush(); _ = w.send([]byte{wire.Pingreq << 4, 0}); w.sayGoodbye(nil) },
		"flushNow again": func(w *writer) { w.flushNow(); w.flush() },
	} {
		w, other, written := testWriter(t)
		fewBuffers(t, w.nc, other)
		acks := manyAcks()
		w.due.add(acks, 1)
		w.flushNow()
		if w.left == 0 || len(w.signal) != 1 || !w.mu.TryLock() {
			t.Fatalf("%s: %d bytes left, signals %d, or the lock is not free", name, w.left, len(w.signal))
		}
		w.mu.Unlock()
		var writing sync.WaitGroup
		writing.Go(func() {
			next(w)
			_ = w.nc.Close()
		})
		got, err := io.ReadAll(other)
		writing.Wait()
		if err != nil || !bytes.HasPrefix(got, acks) {
			t.Errorf("%s: got %d bytes (%v), which do not begin with the %d of the acknowledgements", name, len(got), err, len(acks))
		}
		if !bytes.Equal(*written, acks) {
			t.Errorf("%s: %d bytes count as acknowledged, want %d", name, len(*written), len(acks))
		}
	}
}

// TestAckLeavesWithDone looks only at what is due after Done: no other
// goroutine has been needed, and a batch with More leaves its own to the next.
func TestAckLeavesWithDone(t *testing.T) {
	w := newLine(t, &memory{}, true, nil)
	c := w.conn
	done := func(more bool, id uint16) {
		d := c.newDelivery()
		d.conn = c
		d.acks, d.came, d.More = wire.AppendAck(d.acks, wire.Puback, id), time.Now().UnixNano(), more
		c.window.take(0)
		d.done(1, nil)
	}
	q := &c.writer.due
	done(true, 1)
	if len(q.due) != 4 || len(c.writer.signal) != 0 {
		t.Fatalf("%d bytes due, signal %d, after a batch that another follows", len(q.due), len(c.writer.signal))
	}
	done(false, 2)
	if len(q.due) != 0 || len(c.writer.signal) != 0 {
		t.Fatalf("%d bytes due, signal %d, after the last batch", len(q.due), len(c.writer.signal))
	}
	w.expect(t, puback(1, 2))
}

// TestSenderReadsNoAcks: what a full socket does not take is neither lost nor
// mixed with the control plane's, and the writer's goroutine brings it.
func TestSenderReadsNoAcks(t *testing.T) {
	w := newLine(t, &memory{}, true, nil)
	c := w.conn
	fewBuffers(t, c.nc, w.sender)
	acks, sent := manyAcks(), moreThanFits
	c.writer.due.add(acks, 1)
	c.writer.flushNow()
	c.writer.due.add(wire.AppendAck(nil, wire.Puback, uint16(sent)), 1)
	c.writer.flushNow()
	sent++
	pinged := make(chan struct{})
	go func() {
		defer close(pinged)
		_ = c.Send([]byte{wire.Pingreq << 4, 0})
		c.writer.flush()
	}()
	_ = w.sender.SetReadDeadline(time.Now().Add(patience))
	sender := bufio.NewReaderSize(w.sender, 64<<10)
	pings := 0
	for next := 0; next < sent || pings == 0; {
		var p [4]byte
		if _, err := io.ReadFull(sender, p[:2]); err != nil {
			t.Fatalf("after %d acknowledgements of %d: %v", next, sent, err)
		}
		if p[0] == wire.Pingreq<<4 {
			pings++
			continue
		}
		if _, err := io.ReadFull(sender, p[2:]); err != nil {
			t.Fatal(err)
		}
		if binary.BigEndian.Uint32(p[:]) != wire.Puback<<28|2<<16|uint32(uint16(next)) {
			t.Fatalf("% x instead of the acknowledgement of %d", p, uint16(next))
		}
		next++
	}
	<-pinged
	eventually(t, "all are counted", func() bool { return w.counts.acks.Load() == int64(sent) })
}

// TestQuietInTime: a sender that reads no acknowledgements holds up no stop.
func TestQuietInTime(t *testing.T) {
	w := newLine(t, &memory{}, true, nil)
	fewBuffers(t, w.conn.nc, w.sender)
	w.conn.writer.due.add(manyAcks(), 1)
	w.conn.writer.flushNow()
	quiet := make(chan struct{})
	go func() {
		defer close(quiet)
		w.conn.Quiesce(time.Second/4, time.Second/2, []byte{wire.Disconnect << 4, 0})
	}()
	select {
	case <-quiet:
	case <-time.After(patience):
		t.Error("still waiting for the sender")
	}
}

// TestAcknowledgementsLeaveBeforeTheWrite: what the sender sends when it has read them may be
// read before the write returns, and must not count as in flight beside them.
func TestAcknowledgementsLeaveBeforeTheWrite(t *testing.T) {
	var events []string
	ours, other := tcpPair(t)
	defer other.Close()
	nc := told{ours, func() { events = append(events, "write") }}
	w := newWriter(nc, make(chan struct{}), func(acks []byte) { events = append(events, fmt.Sprintf("leaves % x", acks)) },
		func(acks []byte, _ []int64, _ error) { events = append(events, fmt.Sprintf("wrote % x", acks)) })
	w.due.add(puback(1), 1)
	w.flush()
	w.flush()
	if want := []string{"leaves 40 02 00 01", "write", "wrote 40 02 00 01"}; !slices.Equal(events, want) {
		t.Errorf("%q, want %q", events, want)
	}
	_ = nc.Close()
}

// told is a connection that tells of each Write.
type told struct {
	net.Conn
	write func()
}

func (c told) Write(p []byte) (int, error) {
	c.write()
	return c.Conn.Write(p)
}
