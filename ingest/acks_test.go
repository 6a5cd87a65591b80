package ingest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// TestAckLeavesWithDone looks only at what is due after Done: no other
// goroutine has been needed, and a batch with More leaves its own to the next.
func TestAckLeavesWithDone(t *testing.T) {
	w := newWire(t, newFakeLog(t), true, true, nil)
	c := w.conn
	done := func(more bool, id uint16) {
		d := c.newDelivery()
		d.acks, d.came, d.More = appendAck(d.acks, typePuback, id), time.Now().UnixNano(), more
		c.link.window.take(0)
		d.done(1, nil)
	}
	done(true, 1)
	if len(c.acks.due) != 4 || len(c.acks.signal) != 0 {
		t.Fatalf("%d bytes due, signal %d, behind a batch that another follows", len(c.acks.due), len(c.acks.signal))
	}
	done(false, 2)
	if len(c.acks.due) != 0 || len(c.acks.signal) != 0 {
		t.Fatalf("%d bytes due, signal %d, behind the last batch", len(c.acks.due), len(c.acks.signal))
	}
	w.expect(t, puback(1, 2))
}

// moreThanFits is so many acknowledgements that a socket with fewBuffers cannot
// take them while the other side does not read.
const moreThanFits = 1 << 19

func fewBuffers(t *testing.T, c *conn) {
	t.Helper()
	if err := c.nc.(*net.TCPConn).SetWriteBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
}

// TestBrokerReadsNoAcks has Done meet a socket that is full: it returns, and
// what it could not write is neither lost nor mixed with the control plane's.
func TestBrokerReadsNoAcks(t *testing.T) {
	w := newWire(t, newFakeLog(t), true, true, nil)
	c := w.conn
	fewBuffers(t, c)
	var acks []byte
	sent := 0
	for ; sent < moreThanFits; sent++ { // the lock stays with what is left
		acks = appendAck(acks, typePuback, uint16(sent))
	}
	c.acks.add(acks, 1)
	if !c.ackNow() {
		t.Fatal("the lock was free")
	}
	c.acks.add(appendAck(nil, typePuback, uint16(sent)), 1)
	if c.ackNow() {
		t.Fatal("wrote in spite of what is left")
	}
	sent++
	pinged := make(chan struct{})
	go func() {
		defer close(pinged)
		c.Lock()
		_, _ = c.Write([]byte{typePingreq << 4, 0})
		c.Unlock()
		c.flushAcks()
	}()
	_ = w.broker.SetReadDeadline(time.Now().Add(patience))
	broker := bufio.NewReaderSize(w.broker, 64<<10)
	pings := 0
	for next := 0; next < sent || pings == 0; {
		var p [4]byte
		if _, err := io.ReadFull(broker, p[:2]); err != nil {
			t.Fatalf("after %d acknowledgements of %d: %v", next, sent, err)
		}
		if p[0] == typePingreq<<4 {
			pings++
			continue
		}
		if _, err := io.ReadFull(broker, p[2:]); err != nil {
			t.Fatal(err)
		}
		if binary.BigEndian.Uint32(p[:]) != typePuback<<28|2<<16|uint32(uint16(next)) {
			t.Fatalf("% x instead of the acknowledgement of %d", p, uint16(next))
		}
		next++
	}
	<-pinged
}

// TestQuietInTime: a broker that reads no acknowledgements holds up no stop.
func TestQuietInTime(t *testing.T) {
	w := newWire(t, newFakeLog(t), true, true, nil)
	fewBuffers(t, w.conn)
	acks := bytes.Repeat(puback(1), moreThanFits)
	w.conn.acks.add(acks, 1)
	if !w.conn.ackNow() {
		t.Fatal("the lock was free")
	}
	quiet := make(chan struct{})
	go func() {
		defer close(quiet)
		w.conn.quiesce(windDown)
	}()
	select {
	case <-quiet:
	case <-time.After(patience):
		t.Error("still waiting for the broker")
	}
}
