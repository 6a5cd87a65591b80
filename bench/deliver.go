package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// writeBytes is how much goes into one write.
const writeBytes = 256 << 10

// A delivery sends messages to one connection and takes their PUBACKs, which
// must come in the order of the messages (MQTT 5 §4.6) and for nothing else.
type delivery struct {
	conn   net.Conn
	in     *input
	frames *frames
	n      int // messages to send
	window int // most that may be unacknowledged
	bundle int // as many are written, and waited for, at a time, but for the last

	// control answers other packets than PUBACK; nil: there must be none.
	control func(kind byte, body []byte) error

	sent, acked int
	lowWater    int    // bytes that must have come before a read is woken
	due         uint16 // the packet id that the next PUBACK must carry
	times       deliveryTimes
}

// deliveryTimes are Unix nanoseconds, to be compared between processes.
type deliveryTimes struct {
	Start    int64 // before the first PUBLISH was written
	FirstAck int64 // the first PUBACK had been read
	End      int64 // the last PUBACK had been read
}

func newDelivery(conn net.Conn, in *input, f *frames, n, window int) *delivery {
	return &delivery{conn: conn, in: in, frames: f, n: n, window: window, bundle: 1, due: 1}
}

// run delivers as fast as the window allows, on one goroutine: fill the window,
// read what acknowledgements there are, fill it again. It cannot block for
// ever, because the acknowledgements of a whole window fit into a socket buffer.
func (d *delivery) run() error {
	d.times.Start = time.Now().UnixNano()
	for d.acked < d.n {
		for room := d.room(); room > 0 && room >= min(d.bundle, d.n-d.sent); room = d.room() {
			packets, n := d.frames.next(room, writeBytes)
			if _, err := d.conn.Write(packets); err != nil {
				return fmt.Errorf("write PUBLISH %d: %w", d.sent+1, err)
			}
			d.sent += n
		}
		if err := d.awaitBundle(); err != nil {
			return err
		}
		if err := d.readAcks(); err != nil {
			return err
		}
	}
	d.times.End = time.Now().UnixNano()
	return nil
}

func (d *delivery) room() int { return min(d.window-(d.sent-d.acked), d.n-d.sent) }

// awaitBundle has the kernel wake this process only for a whole bundle of
// PUBACKs: a broker sends them one by one, and a sender that woke for each
// would take a good part of the broker's own processor.
func (d *delivery) awaitBundle() error {
	least := min(d.bundle, d.sent-d.acked) * 4
	if d.bundle == 1 || least == d.lowWater {
		return nil
	}
	raw, err := d.conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, least) })
	d.lowWater = least
	return errors.Join(cerr, err)
}

// readAcks reads once and takes every packet in it.
func (d *delivery) readAcks() error {
	if err := d.in.fill(); err != nil {
		return fmt.Errorf("read PUBACK %d of %d: %w", d.acked+1, d.n, err)
	}
	if err := d.takeAcks(d.sent); err != nil {
		return err
	}
	if d.times.FirstAck == 0 && d.acked > 0 {
		d.times.FirstAck = time.Now().UnixNano()
	}
	return nil
}

// takeAcks takes the packets that have been read, while sent messages are out.
func (d *delivery) takeAcks(sent int) error {
	d.shortAcks(sent)
	for {
		first, body, ok, err := d.in.Packet()
		if err != nil || !ok {
			return err
		}
		if err := d.take(first>>4, body, sent); err != nil {
			return err
		}
		d.shortAcks(sent)
	}
}

// shortAcks takes a run of PUBACKs of the usual form: four bytes each.
func (d *delivery) shortAcks(sent int) {
	b := d.in.Bytes()
	for len(b) >= 4 && d.acked < sent && binary.BigEndian.Uint32(b) == wire.Puback<<28|2<<16|uint32(d.due) {
		b = b[4:]
		d.acked++
		d.due = nextID(d.due)
	}
	d.in.Skip(len(d.in.Bytes()) - len(b))
}

func (d *delivery) take(kind byte, body []byte, sent int) error {
	if kind == wire.Puback {
		return d.takeAck(body, sent)
	}
	if d.control == nil {
		return fmt.Errorf("packet type %d instead of PUBACK", kind)
	}
	if err := d.control(kind, body); err != nil {
		return fmt.Errorf("after %d of %d acknowledgements: %w", d.acked, d.n, err)
	}
	return nil
}

// takeAck checks one PUBACK.
func (d *delivery) takeAck(body []byte, sent int) error {
	if len(body) < 2 || len(body) > 2 && body[2] >= 0x80 {
		return fmt.Errorf("PUBACK % x: %w", body, errMalformed)
	}
	id := binary.BigEndian.Uint16(body)
	if d.acked == sent {
		return fmt.Errorf("PUBACK for packet id %d, which is not out", id)
	}
	if id != d.due {
		return fmt.Errorf("PUBACK out of order: packet id %d instead of %d, after %d", id, d.due, d.acked)
	}
	d.acked++
	d.due = nextID(d.due)
	return nil
}
