package session

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// refusedProperty is the name of the user property of the record that stands for
// a message that is too large.
const refusedProperty = "mqttetl-refused"

// An excess is a message beyond max_packet, or whose properties are beyond
// MaxProperties, while it is read and thrown away. MQTT has no answer to it that
// helps. A broker that is told of a Maximum Packet Size discards what exceeds it
// and says nothing (MQTT 5 §3.1.2.11.4); one that gets a DISCONNECT, or no
// acknowledgement, sends the message again, before all that is queued after it,
// for ever. So a record takes its place that has its topic and says how large it
// was, with a digest; it is committed and acknowledged as any other.
type excess struct {
	first  byte
	topic  []byte
	packet int
	props  int // bytes of properties
	skip   int // of them, those still to come, which are in the stream before the payload
	sum    hash.Hash
	size   int // of the payload
}

// refused is the value of refusedProperty.
type refused struct {
	Reason     string `json:"reason"`
	Packet     int    `json:"packet"`     // bytes of the PUBLISH
	Payload    int    `json:"payload"`    // bytes
	Properties int    `json:"properties"` // bytes
	SHA256     string `json:"sha256"`     // of the payload
}

func (r *reader) tooLarge(packet int, h *wire.Head) bool {
	return h.Skipped > 0 || packet > r.MaxPacket
}

// begin takes the head of a message of which rest bytes follow.
func (e *excess) begin(first byte, packet int, h *wire.Head, rest int) {
	*e = excess{
		first: first, topic: bytes.Clone(h.Topic), packet: packet,
		props: len(h.Props) + h.Skipped, skip: h.Skipped, sum: sha256.New(), size: rest - h.Skipped,
	}
}

// write takes what follows.
func (e *excess) write(p []byte) {
	n := min(e.skip, len(p))
	e.skip -= n
	_, _ = e.sum.Write(p[n:]) // never fails
}

// refuseLarge stores the record that takes the place of a message that is too
// large.
func (r *reader) refuseLarge() {
	e := &r.long.excess
	why := fmt.Sprintf("the packet exceeds max_packet, %d bytes", r.MaxPacket)
	if e.packet <= r.MaxPacket {
		why = fmt.Sprintf("the properties exceed %d bytes", MaxProperties)
	}
	value, _ := json.Marshal(refused{why, e.packet, e.size, e.props, fmt.Sprintf("%x", e.sum.Sum(nil))}) // strings and integers
	r.batch().Append(r.in.now, mqttetl.Message{
		Topic:      e.topic,
		Properties: mqttetl.Property{ID: mqttetl.UserProperty, Name: []byte(refusedProperty), Value: value}.Append(nil),
		Flags:      publishFlags(e.first),
	})
	r.Counters.TooLarge()
	if n := r.large.Count(); n > 0 {
		r.Logger.Warn("messages are too large; a record without payload takes the place of each, and says so in the user property "+refusedProperty,
			"messages", n, "topic", string(e.topic), "bytes", e.packet, "reason", why,
			"hint", "raise max_packet of this source if such messages are wanted")
	}
	*e = excess{}
}
