package session

import (
	"encoding/binary"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// plainFirst is the first byte of a PUBLISH with QoS 1, without DUP and RETAIN.
const plainFirst = wire.Publish<<4 | 1<<1

// takePlain takes what nearly every packet is, from the front of the buffer: a
// whole PUBLISH with plainFirst, without properties, on an ordinary topic,
// under an id that is free, within the receive maximum. It stops at anything
// else, which the general way then judges. For the packets it takes it does
// what publish does.
func (r *reader) takePlain() {
	if !r.begun || r.long.rest > 0 {
		return
	}
	var d *delivery
	for {
		p := r.in.bytes()
		topic, payload, id, size := plainPublish(p, r.v5)
		if size == 0 || r.judge != nil && !r.judge.Plain(topic) || r.ids.qos1.has(id) || r.v5 && r.ids.inFlight() >= r.ReceiveMaximum {
			return
		}
		if d == nil {
			d = r.batch()
		}
		r.ids.qos1.add(id)
		d.acks = wire.AppendAck(d.acks, wire.Puback, id)
		d.tally.Received[1]++
		d.tally.Bytes += uint64(size)
		d.Append(r.in.now, mqttetl.Message{Topic: topic, Payload: payload, Flags: 1})
		if r.again.most > 0 {
			r.again.judge(id, sumOf(topic, nil, payload), false)
		}
		r.in.skip(size)
	}
}

// plainPublish decodes the PUBLISH at the front of p, if it is plain, and
// returns its size; 0: it is not plain, or not whole.
func plainPublish(p []byte, v5 bool) (topic, payload []byte, id uint16, size int) {
	if len(p) < 3 || p[0] != plainFirst {
		return nil, nil, 0, 0
	}
	at, size := 2, 2+int(p[1])
	if p[1] >= 0x80 {
		if p[2] >= 0x80 { // 16 KiB or more: the rest of the work counts
			return nil, nil, 0, 0
		}
		at, size = 3, 3+int(p[1]&0x7f)+int(p[2])<<7
	}
	if size > len(p) || size < at+2 {
		return nil, nil, 0, 0
	}
	body := p[at:size]
	end := 2 + int(binary.BigEndian.Uint16(body)) // of the topic
	from := end + 2
	if v5 {
		from++
	}
	if from > len(body) || end == 2 || body[2] == '$' || v5 && body[end+2] != 0 {
		return nil, nil, 0, 0
	}
	id = binary.BigEndian.Uint16(body[end:])
	if id == 0 || !validTopic(body[2:end]) {
		return nil, nil, 0, 0
	}
	return body[2:end], body[from:], id, size
}
