package session

import (
	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// A Judge is a Control of a sender that is not trusted as a broker is. What it
// refuses is not recorded.
type Judge interface {
	Control
	// Plain says whether a message of QoS 1 without properties on this topic is
	// taken. False: Judge is asked.
	Plain(topic []byte) bool
	// Judge looks at a PUBLISH of size bytes, whose Topic and Props it may
	// replace: with an alias they are the sender's to resolve. A code from 0x80 refuses the
	// message, an error ends the connection.
	Judge(first byte, size int, h *wire.Head) (code byte, err error)
	// Held is called now and then while nothing is read, because the log has not
	// stored what it was given.
	Held()
}

// look has a PUBLISH judged and does what its QoS asks for; it says whether the
// message is to be stored. payload is nil if it has not come.
func (r *reader) look(first byte, size int, h *wire.Head, payload []byte) (store bool, err error) {
	if r.judge == nil {
		r.mendTopic(h)
		return r.receive(first, size, h, payload)
	}
	if r.tooLarge(size, h) {
		return false, &wire.Error{Code: wire.CodeTooLarge, What: "a PUBLISH beyond the maximum packet size"}
	}
	code, err := r.judge.Judge(first, size, h)
	if err != nil || code == 0 {
		if err != nil {
			return false, err
		}
		return r.receive(first, size, h, payload)
	}
	r.refuse(publishFlags(first).QoS(), h.ID, code)
	return false, nil
}

// refuse answers a message that is not taken. Before MQTT 5 there is no word for
// it: the sender gets what it waits for, as it does from Mosquitto. A judge that
// does not want this ends the connection instead.
func (r *reader) refuse(qos int, id uint16, code byte) {
	if qos == 0 {
		return
	}
	kind := byte(wire.Puback)
	if qos == 2 {
		kind = wire.Pubrec
	}
	d := r.batch()
	if r.v5 && qos == 2 && r.ids.qos2.has(id) {
		// Stored when it was allowed, and sent again: the exchange ends here, and the
		// sender may use the id for another message.
		d.IDs = append(d.IDs, mqttetl.IDChange{ID: id, Op: mqttetl.IDRemoved})
		r.ids.qos2.remove(id)
		r.ids.here.remove(id)
	}
	if r.v5 {
		d.acks = append(d.acks, kind<<4, 3, byte(id>>8), byte(id), code)
		return
	}
	d.acks = wire.AppendAck(d.acks, kind, id)
}
