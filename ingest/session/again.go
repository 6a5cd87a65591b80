package session

import (
	"hash/maphash"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// An again knows the last messages of QoS 1 of a session, for a sender that has
// lost our PUBACK and sends one once more: it has the same packet id, DUP, and the same
// bytes. All three are needed. DUP alone may stand on a message that has never
// come, under an id that an acknowledged one had before it.
type again struct {
	most int // 0: none is known
	ids  []uint16
	sums []uint64
	at   int // of the oldest, when there are most

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
	if dup && a.knows(h.ID, sum) {
		return true
	}
	a.note(h.ID, sum)
	return false
}

func (a *again) note(id uint16, sum uint64) {
	if len(a.ids) < a.most {
		a.ids, a.sums = append(a.ids, id), append(a.sums, sum)
		return
	}
	a.ids[a.at], a.sums[a.at] = id, sum
	a.at = (a.at + 1) % a.most
}

// knows says whether the last message of this id was the same.
func (a *again) knows(id uint16, sum uint64) bool {
	n := len(a.ids)
	for i := range n {
		if at := (a.at - 1 - i + 2*n) % n; a.ids[at] == id {
			return a.sums[at] == sum
		}
	}
	return false
}

func (a *again) forget() { a.ids, a.sums, a.at, a.id = nil, nil, 0, 0 }

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
	sum := combine(a.head, a.hash.Sum64())
	known = a.dup && a.knows(a.id, sum)
	if !known {
		a.note(a.id, sum)
	}
	a.id = 0
	return known
}
