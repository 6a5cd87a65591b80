package session

import (
	"hash/maphash"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// An again knows the last messages of QoS 1 of a session, for a sender that has
// lost our PUBACK and sends one once more: it has the same packet id, DUP, and the same
// bytes. All three are needed. DUP alone may stand on a message that has never
// come, under an id that an acknowledged one had before it. Nor do the three prove it where
// the sender has got our PUBACK: a meter says the same twice. So what has reached it is forgotten.
// To know too little makes a second record, to know too much loses a message.
type again struct {
	most  int // 0: none is known
	ids   []uint16
	sums  []uint64
	conns []uint32 // on which each has come last
	at    int      // of the oldest, when there are most

	conn  uint32 // the connection that is read
	v5    bool   // it may not send a message twice (MQTT 5 §4.4)
	fresh bool   // it has brought a message without DUP

	// A message that has not wholly come.
	id   uint16 // 0: none that counts
	dup  bool
	head uint64
	hash maphash.Hash
}

var seed = maphash.MakeSeed()

// sumOf tells a message from others.
func sumOf(topic []byte, props mqttetl.Properties, payload []byte) uint64 {
	return combine(headOf(topic, props), maphash.Bytes(seed, payload))
}

func headOf(topic []byte, props mqttetl.Properties) uint64 {
	head := maphash.Bytes(seed, topic)
	if len(props) > 0 {
		head = combine(head, maphash.Bytes(seed, props))
	}
	return head
}

func combine(a, b uint64) uint64 { return a*0x9e3779b97f4a7c15 ^ b }

// takes notes a message, unless it is known and comes again, as dup says: then it is true.
func (a *again) takes(h *wire.Head, payload []byte, dup bool) (known bool) {
	if a.most == 0 {
		return false
	}
	sum := sumOf(h.Topic, h.Props, payload)
	return a.judge(h.ID, sum, dup)
}

func (a *again) judge(id uint16, sum uint64, dup bool) (known bool) {
	if dup && a.knows(id, sum) {
		return true
	}
	a.note(id, sum)
	a.fresh = a.fresh || !dup
	return false
}

// start begins a connection.
func (a *again) start(v5 bool) { a.conn, a.v5, a.fresh, a.id = a.conn+1, v5, false, 0 }

// ended forgets what will not come again after the connection that has ended: where all that
// was written to it has reached the sender, the messages whose PUBACK was (not due); and those of
// earlier connections once a new message has come, because the old ones come first.
func (a *again) ended(reached bool, due func(id uint16) bool) {
	old := *a
	a.ids, a.sums, a.conns, a.at = nil, nil, nil, 0
	for i := range old.ids {
		at := (old.at + i) % len(old.ids)
		if old.conns[at] != old.conn && !old.fresh || old.conns[at] == old.conn && (!reached || due(old.ids[at])) {
			a.ids, a.sums, a.conns = append(a.ids, old.ids[at]), append(a.sums, old.sums[at]), append(a.conns, old.conns[at])
		}
	}
}

func (a *again) note(id uint16, sum uint64) {
	if len(a.ids) < a.most {
		a.ids, a.sums, a.conns = append(a.ids, id), append(a.sums, sum), append(a.conns, a.conn)
		return
	}
	a.ids[a.at], a.sums[a.at], a.conns[a.at] = id, sum, a.conn
	a.at = (a.at + 1) % a.most
}

// knows says whether the last message of this id was the same, and may come again.
func (a *again) knows(id uint16, sum uint64) bool {
	n := len(a.ids)
	for i := range n {
		if at := (a.at - 1 - i + 2*n) % n; a.ids[at] == id {
			if a.sums[at] != sum || a.v5 && a.conns[at] == a.conn {
				return false
			}
			a.conns[at] = a.conn
			return true
		}
	}
	return false
}

func (a *again) forget() { a.ids, a.sums, a.conns, a.at, a.id = nil, nil, nil, 0, 0 }

// begin notes the head of a message that comes in pieces, write takes one, and
// end says whether the whole is known.
func (a *again) begin(first byte, h *wire.Head) {
	if a.id = 0; a.most == 0 || publishFlags(first).QoS() != 1 {
		return
	}
	a.id, a.dup, a.head = h.ID, publishFlags(first).Dup(), headOf(h.Topic, h.Props)
	a.hash.SetSeed(seed)
}

func (a *again) write(p []byte) {
	if a.id != 0 {
		_, _ = a.hash.Write(p) // never fails
	}
}

func (a *again) end() (known bool) {
	if a.id == 0 {
		return false
	}
	known = a.judge(a.id, combine(a.head, a.hash.Sum64()), a.dup)
	a.id = 0
	return known
}
