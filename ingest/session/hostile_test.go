package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

func TestNoMoreMemoryThanReceived(t *testing.T) {
	w := newLine(t, &memory{}, true, nil)
	// 256 MiB announced, of which a property list of 200 MiB, and little sent.
	w.send(t, append([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a', 0x80, 0x80, 0x80, 0x64}, make([]byte, 300<<10)...))
	w.send(t, make([]byte, 100<<10))
	_ = w.sender.Close()
	_ = w.end(t)
	if n := len(w.conn.reader.in.buf); n > 1<<20 {
		t.Fatalf("buffer of %d bytes for 400 KiB received", n)
	}
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
