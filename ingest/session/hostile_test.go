package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// reads notes how large the buffers are that it is to fill.
type reads struct {
	net.Conn
	most int
}

func (r *reads) Read(p []byte) (int, error) {
	r.most = max(r.most, len(p))
	return r.Conn.Read(p)
}

func TestNoMoreMemoryThanReceived(t *testing.T) {
	s, _ := newSession(&memory{}, nil)
	ours, sender := tcpPair(t)
	r := &reads{Conn: ours}
	w := attach(t, s, r, sender, true, true)
	// 256 MiB announced, of which a property list of 200 MiB, and little sent.
	w.send(t, append([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a', 0x80, 0x80, 0x80, 0x64}, make([]byte, 300<<10)...))
	w.send(t, make([]byte, 100<<10))
	_ = w.sender.Close()
	_ = w.end(t)
	if r.most > 1<<20 {
		t.Fatalf("a buffer of %d bytes for 400 KiB received", r.most)
	}
}

// TestEndedConnectionsKeepLittle: while a batch is on its way to the log, the connection that
// it came by keeps neither its read buffer nor its packet ids, and the budget bears 4 KiB.
func TestEndedConnectionsKeepLittle(t *testing.T) {
	log := &memory{}
	log.hold(true)
	budget := NewBudget(1 << 20)
	w := newLine(t, log, true, func(c *Config) { c.Budget, c.Input = budget, 2<<10 })
	w.send(t, publishFrame(true, 2, 1, "t", nil, []byte("x")))
	eventually(t, "the batch", func() bool { return log.pending() == 1 })
	budget.mu.Lock()
	if budget.bytes < LeastCost {
		t.Errorf("a small batch costs %d bytes", budget.bytes)
	}
	budget.mu.Unlock()
	w.conn.Fail(net.ErrClosed)
	_ = w.end(t)
	if r := &w.conn.reader; r.in.buf != nil || r.ids.qos1.pages[0] != nil {
		t.Errorf("the connection keeps a buffer of %d bytes, and ids: %v", len(r.in.buf), r.ids.qos1.pages[0] != nil)
	}
	log.hold(false)
	eventually(t, "everything is given back", func() bool { budget.mu.Lock(); defer budget.mu.Unlock(); return budget.bytes == 0 })
}

// TestUnfinishedMessages: those of all sessions together have a bound. One alone may have
// more, and what it had is given back when the message is whole, or the connection has ended.
func TestUnfinishedMessages(t *testing.T) {
	unfinished := NewBudget(200 << 10)
	bears := func() int {
		unfinished.mu.Lock()
		defer unfinished.mu.Unlock()
		return unfinished.bytes
	}
	line := func() *line {
		return newLine(t, &memory{}, true, func(c *Config) { c.Unfinished = unfinished })
	}
	frame := publishFrame(true, 2, 7, "t", nil, make([]byte, 400<<10))
	first, second := line(), line()
	first.send(t, frame[:100<<10])
	eventually(t, "the first is charged", func() bool { return bears() >= 100<<10-20 })
	second.send(t, frame[:150<<10])
	second.expect(t, []byte{wire.Disconnect << 4, 1, wire.CodeQuota})
	var fault *wire.Error
	if err := second.end(t); !errors.As(err, &fault) || fault.Code != wire.CodeQuota {
		t.Errorf("the second ends with %v", err)
	}
	first.send(t, frame[100<<10:])
	first.expect(t, puback(7))
	eventually(t, "everything is given back", func() bool { return bears() == 0 })
	head := append([]byte{0x30, 0xff, 0xff, 0x7f, 0, 1, 't', 0xff, 0xff, 0x3f}, make([]byte, 64<<10)...) // properties of 1 MiB
	third := line()
	third.send(t, head)
	eventually(t, "a head that has not come is charged", func() bool { return bears() >= 64<<10 })
	_ = third.sender.Close()
	_ = third.end(t)
	eventually(t, "everything is given back", func() bool { return bears() == 0 })
}

// TestSenderThatReadsNothing: a sender that goes on sending what must be
// answered, and reads no answer, is owed a bounded number of bytes, and is left.
func TestSenderThatReadsNothing(t *testing.T) {
	release := bytes.Repeat([]byte{wire.Pubrel<<4 | 2, 2, 0, 1}, 16<<10)
	for name, frames := range map[string][]byte{
		"PUBREL":       release,
		"QoS 2 ids":    bytes.Repeat(publishFrame(true, 4, 1, "t", nil, nil), 8<<10),
		"QoS 1 ids":    bytes.Repeat(publishFrame(true, 2, 1, "t", nil, nil), 8<<10),
		"2 and PUBREL": bytes.Repeat(append(publishFrame(true, 4, 1, "t", nil, nil), release[:4]...), 8<<10),
	} {
		t.Run(name, func(t *testing.T) {
			var w *line
			t.Cleanup(func() { // after that of the wire, which has waited for its goroutines
				if got := cap(w.conn.writer.due.due) + cap(w.conn.writer.due.released) + cap(w.conn.writer.acks); got > 4*(mostOwed+windowBytes) {
					t.Errorf("queues of %d bytes", got)
				}
			})
			w = newLine(t, &memory{}, true, func(cfg *Config) { cfg.Unread = 200 * time.Millisecond })
			fewBuffers(t, w.conn.nc, w.sender)
			most, sent := int64(0), 0
			for sent < 64<<20 {
				_ = w.sender.SetWriteDeadline(time.Now().Add(patience))
				n, err := w.sender.Write(frames)
				sent += n
				most = max(most, w.conn.writer.due.owed.Load())
				if err != nil {
					break
				}
			}
			if err := w.end(t); !errors.Is(err, ErrUnread) {
				t.Fatalf("after %d bytes the connection ended with %v, want %v", sent, err, ErrUnread)
			}
			// What one read brings is answered with as much at most, and the window bounds what is under way.
			if limit := int64(mostOwed + windowBytes); most > limit {
				t.Errorf("the sender was owed %d bytes of acknowledgements, want %d at most", most, limit)
			}
		})
	}
}

// TestTooLarge: a record takes the place of a message beyond the limits; what
// stands around it is as ever.
func TestTooLarge(t *testing.T) {
	const limit = 100 << 10
	long := mqttetl.Property{ID: mqttetl.UserProperty, Name: []byte("n"), Value: bytes.Repeat([]byte{'\x01'}, 60000)}.Append(nil)
	tooMany := bytes.Repeat(long, MaxProperties/len(long)+1)
	large := bytes.Repeat([]byte("0123456789"), limit/10)
	for name, c := range map[string]struct {
		v5             bool
		flags          byte
		props, payload []byte
		max            int
		reason         string
	}{
		"payload of MQTT 5":     {true, 2, nil, large, limit, "max_packet"},
		"payload of MQTT 3.1.1": {false, 2, nil, large, limit, "max_packet"},
		"payload with QoS 0":    {true, 1, long, large, limit, "max_packet"},
		"payload with QoS 2":    {true, 4, nil, large, limit, "max_packet"},
		"payload of 16 MiB":     {true, 2, nil, bytes.Repeat(large, 160), limit, "max_packet"},
		"properties":            {true, 2, tooMany, []byte("small"), 64 << 20, "properties"},
		"properties alone":      {true, 2, tooMany, nil, 64 << 20, "properties"},
		"both":                  {true, 2, tooMany, large, limit, "max_packet"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newLine(t, &memory{}, c.v5, func(cfg *Config) { cfg.MaxPacket = c.max })
			frame := publishFrame(c.v5, c.flags, 7, "large", c.props, c.payload)
			stream := append(publishFrame(c.v5, 2, 1, "before", nil, []byte("b")), frame...)
			w.send(t, append(stream, publishFrame(c.v5, 2, 2, "after", nil, []byte("a"))...))
			want := puback(1)
			switch c.flags >> 1 & 3 {
			case 1:
				want = append(want, puback(7)...)
			case 2:
				want = wire.AppendAck(want, wire.Pubrec, 7)
			}
			w.expect(t, append(want, puback(2)...))
			r := w.log.all()
			if len(r) != 3 || string(r[0].Payload) != "b" || string(r[2].Payload) != "a" {
				t.Fatalf("%d records: %v", len(r), r)
			}
			got := r[1]
			if string(got.Topic) != "large" || len(got.Payload) > 0 || got.Flags != publishFlags(c.flags) {
				t.Fatalf("the record is %s, %d bytes, flags %x", got.Topic, len(got.Payload), got.Flags)
			}
			var says refused
			for p := range got.Properties.All() {
				if string(p.Name) == refusedProperty {
					if err := json.Unmarshal(p.Value, &says); err != nil {
						t.Fatal(err)
					}
				}
			}
			if sum := fmt.Sprintf("%x", sha256.Sum256(c.payload)); says.SHA256 != sum || says.Packet != len(frame) ||
				says.Payload != len(c.payload) || says.Properties != len(c.props) || !strings.Contains(says.Reason, c.reason) {
				t.Errorf("got %+v, want %d bytes, payload %d, properties %d, %s", says, len(frame), len(c.payload), len(c.props), sum)
			}
			if n := w.counts.tooLarge.Load(); n != 1 {
				t.Errorf("%v too large messages counted", n)
			}
			if n := len(w.conn.reader.in.buf); n > 4<<20 {
				t.Errorf("a buffer of %d bytes", n)
			}
		})
	}
}
