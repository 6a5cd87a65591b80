package session

import "github.com/mqttetl/mqttetl/internal/wire"

// An idSet is a set of packet identifiers.
// Its pages come when they are needed:
// most senders have a few ids, and there may be thousands of senders.
type idSet struct {
	pages [1 << 16 / pageIDs]*[pageIDs / 64]uint64
	n     int
}

// pageIDs is how many ids a page of an idSet has.
const pageIDs = 4096

func (s *idSet) has(id uint16) bool {
	page := s.pages[id/pageIDs]
	return page != nil && page[id%pageIDs>>6]&(1<<(id&63)) != 0
}

func (s *idSet) add(id uint16) {
	page := s.pages[id/pageIDs]
	if page == nil {
		page = new([pageIDs / 64]uint64)
		s.pages[id/pageIDs] = page
	}
	if word := &page[id%pageIDs>>6]; *word&(1<<(id&63)) == 0 {
		*word |= 1 << (id & 63)
		s.n++
	}
}

func (s *idSet) remove(id uint16) {
	if s.has(id) {
		s.pages[id/pageIDs][id%pageIDs>>6] &^= 1 << (id & 63)
		s.n--
	}
}

// packetIDs is what a connection knows about the packet identifiers of its
// sender. Only the goroutine that reads uses it.
type packetIDs struct {
	qos1 idSet // received on this connection, PUBACK not yet written
	qos2 idSet // of the session: PUBREC due or sent, PUBREL not received
	here idSet // those of qos2 that were received on this connection
	dups idSet // those of qos1 that came with DUP, as redeliveries of an earlier connection

	loaded bool // qos2 holds what the log knows of the session
}

// load takes over the ids that the log knows of the session.
func (p *packetIDs) load(ids []uint16) {
	for _, id := range ids {
		p.qos2.add(id)
	}
	p.loaded = true
}

// release takes the ids of written PUBACKs out of flight.
func (p *packetIDs) release(acks []byte) {
	for len(acks) > 0 {
		if acks[0]>>4 == wire.Puback {
			id := uint16(acks[2])<<8 | uint16(acks[3])
			p.qos1.remove(id)
			if p.dups.n > 0 {
				p.dups.remove(id)
			}
		}
		acks = acks[2+acks[1]:]
	}
}

// retake takes back the ids of PUBACKs that were not written.
func (p *packetIDs) retake(acks []byte) {
	for len(acks) > 0 {
		if acks[0]>>4 == wire.Puback {
			p.qos1.add(uint16(acks[2])<<8 | uint16(acks[3]))
		}
		acks = acks[2+acks[1]:]
	}
}

// inFlight is the number of messages whose PUBACK or PUBCOMP is due.
func (p *packetIDs) inFlight() int { return p.qos1.n + p.qos2.n }

// knownQoS2 says whether a QoS 2 PUBLISH is a redelivery of a message that has
// been received already (MQTT 5 §4.3.3). An id that came before this connection
// counts only with DUP set, which every redelivery must have (§3.3.1.1):
// without it the broker means a new message, which happens after a broker was
// restored from an older snapshot, and taking it for a known one would lose it.
func (p *packetIDs) knownQoS2(id uint16, dup bool) bool {
	return p.qos2.has(id) && (dup || p.here.has(id))
}
