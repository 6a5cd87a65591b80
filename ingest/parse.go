package ingest

import (
	"errors"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// longFrame is the frame size, in bytes, from which a PUBLISH that is not
// wholly in the buffer goes into the batch piece by piece.
const longFrame = 32 << 10

// errNeedIDs: the next frame is of QoS 2, and the log has not been asked yet
// which ids of the session it knows.
var errNeedIDs = errors.New("packet ids not loaded")

// parse works through the buffer until it is drained but for an unfinished
// frame, or there is a frame for the control plane.
func (c *conn) parse() error {
	for len(c.control) == 0 {
		if c.rest > 0 && !c.continueLong() {
			return nil
		}
		c.takePlain()
		p := c.in.bytes()
		first, size, remaining, err := wire.FixedHeader(p)
		if err != nil || size == 0 {
			return err
		}
		if err := c.admit(first); err != nil {
			return err
		}
		if end := size + remaining; end <= len(p) {
			err = c.frame(first, p[:end], p[size:end])
			if err == nil {
				c.in.skip(end)
			}
		} else {
			var more bool
			if more, err = c.unfinished(first, size, remaining); !more && err == nil {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maybeNoBroker adds to a fault in the first packet who else may have sent it.
func (c *conn) maybeNoBroker(first byte, fault error) error {
	if c.connected {
		return fault
	}
	return mqttetl.WithHint(fault, dial.NoBroker(first))
}

// admit judges a frame by its first byte, before the rest of it is waited for.
func (c *conn) admit(first byte) error {
	if err := checkFirst(first, c.v5); err != nil {
		return c.maybeNoBroker(first, err)
	}
	kind := first >> 4
	if c.connected == (kind == typeConnack) && kind != typeDisconnect {
		if c.connected {
			return wire.Violation("a second CONNACK")
		}
		return c.maybeNoBroker(first, wire.Violation("a packet of type %d before the CONNACK", kind))
	}
	if !c.ids.loaded && (kind == typePubrel || kind == typePublish && first&6 == 4) {
		return errNeedIDs
	}
	return nil
}

// frame takes one whole frame, of which body is what follows the fixed header.
func (c *conn) frame(first byte, whole, body []byte) error {
	switch first >> 4 {
	case typePublish:
		return c.publish(first, whole, body)
	case typePubrel:
		return c.pubrel(body)
	case typeConnack:
		if err := c.connack(body); err != nil {
			return err
		}
	case typePingresp:
		if !c.pings.response() {
			return nil
		}
	case typeSuback:
		if !c.v5 && len(body) != 3 {
			return wire.Malformed("a SUBACK of %d bytes for one filter", len(body))
		}
	case typeDisconnect:
		c.setRefusal(refusalOf(packetDisconnect, true, body))
	}
	c.control = whole
	return nil
}

// unfinished looks at a frame that is not wholly in the buffer. A long PUBLISH
// is begun in a batch of its own, once its header is there; more says so.
func (c *conn) unfinished(first byte, size, remaining int) (more bool, err error) {
	end := size + remaining
	if first>>4 != typePublish {
		if end > wire.MaxControl {
			return false, wire.Malformed("a packet of type %d with %d bytes", first>>4, end)
		}
		return false, nil
	}
	body := c.in.bytes()[size:]
	h, need, err := wire.PublishHead(first, remaining, body, c.limits())
	if err != nil || need > 0 || end < longFrame {
		return false, err
	}
	c.handOver() // nobody's acknowledgement waits for a long message
	store, err := c.receive(first, end, &h)
	if err != nil {
		return false, err
	}
	c.mendTopic(&h)
	c.rest = remaining - h.Size
	switch {
	case !store:
		c.rests = skips
	case c.tooLarge(end, &h):
		c.rests = digests
		c.excess.begin(first, end, &h, c.rest)
	default:
		c.rests = stores
		c.batch().Open(c.in.now, publishFlags(first), h.Topic, h.Props, c.rest)
	}
	c.in.skip(size + h.Size)
	return true, nil
}

// What happens to the rest of a long message.
const (
	stores  = iota // in the open batch
	skips          // it is known, or nobody wants it
	digests        // it is too large
)

// continueLong moves received bytes of a long message into the batch and says
// whether the message is complete.
func (c *conn) continueLong() bool {
	p := c.in.bytes()
	p = p[:min(len(p), c.rest)]
	switch c.rests {
	case stores:
		_, _ = c.open.Write(p) // never fails
	case digests:
		c.excess.write(p)
	}
	c.in.skip(len(p))
	c.rest -= len(p)
	if c.rest == 0 && c.rests == digests {
		c.refuseLarge()
	}
	return c.rest == 0
}

// batch is the open batch.
func (c *conn) batch() *delivery {
	if c.open == nil {
		c.open = c.newDelivery()
	}
	return c.open
}

// publish takes one whole PUBLISH.
func (c *conn) publish(first byte, whole, body []byte) error {
	h, _, err := wire.PublishHead(first, len(body), body, c.limits())
	if err != nil {
		return err
	}
	c.mendTopic(&h)
	payload := body[h.Size:]
	if isDroppedTopic(h.Topic) {
		c.observeDropped(payload)
	}
	if store, err := c.receive(first, len(whole), &h); !store || err != nil {
		return err
	}
	if c.tooLarge(len(whole), &h) {
		c.excess.begin(first, len(whole), &h, len(payload))
		c.excess.write(payload)
		c.refuseLarge()
		return nil
	}
	m := mqttetl.Message{
		Topic:      h.Topic,
		Payload:    payload,
		Properties: h.Props,
		Flags:      publishFlags(first),
	}
	c.batch().Append(c.in.now, m)
	return nil
}

// receive does what the QoS of a PUBLISH of size bytes asks for and says
// whether the message is to be stored.
func (c *conn) receive(first byte, size int, h *wire.Head) (store bool, err error) {
	flags := publishFlags(first)
	d := c.batch()
	switch flags.QoS() {
	case 0:
		store = c.link.dropped.wanted || !isDroppedTopic(h.Topic)
	case 1:
		store, err = c.receiveQoS1(d, h.ID, flags.Dup())
	case 2:
		store = c.receiveQoS2(d, h.ID, flags.Dup())
	}
	if err != nil {
		return false, err
	}
	d = c.batch() // a note may have begun another
	if flags.Dup() && flags.QoS() > 0 {
		d.tally.redelivered++
	}
	if store {
		d.tally.received[flags.QoS()]++
		d.tally.bytes += uint64(size)
	}
	return store, nil
}

func (c *conn) receiveQoS1(d *delivery, id uint16, dup bool) (store bool, err error) {
	if c.ids.qos1.has(id) {
		c.acks.writtenSince(c.ids.release)
	}
	if c.ids.qos1.has(id) {
		again, err := c.sentAgain(id, dup)
		if err != nil || again {
			return false, err
		}
		d = c.batch() // sentAgain may have begun another
	}
	c.ids.qos1.add(id)
	if dup {
		c.ids.dups.add(id)
	}
	c.checkQuota()
	d.acks = appendAck(d.acks, typePuback, id)
	return true, nil
}

// sentAgain says whether a PUBLISH whose packet id awaits its PUBACK is the same
// message once more. MQTT 3.1.1 lets a server send again while the connection
// lasts: then the message is on its way to the log already and will be
// acknowledged. Anything else is a broker that uses an id for two messages
// (MQTT 5 §2.2.1). Ending the connection would bring both again, for ever; so
// each is stored and acknowledged, and the fault is told. From then on DUP
// proves nothing, nor does it where the first of the two has it: both may be
// redeliveries of different messages.
func (c *conn) sentAgain(id uint16, dup bool) (again bool, err error) {
	p, err := c.link.remembers()
	if err != nil {
		return false, err
	}
	if !c.v5 && dup && !p.reuses && !c.ids.dups.has(id) {
		return true, nil
	}
	if !dup && !p.reuses {
		p.reuses = true
		c.note(noteName("session", c.link.session), p.note())
	}
	c.link.idReused(id, "the broker uses packet ids again before their PUBACK; all its messages are stored and acknowledged")
	return false, nil
}

func (l *link) idReused(id uint16, says string) {
	l.counters.reused.Inc()
	if n := l.reuses.Count(); n > 0 {
		l.logger.Warn(says, "messages", n, "packet_id", id)
	}
}

func (c *conn) receiveQoS2(d *delivery, id uint16, dup bool) (store bool) {
	if !dup && c.ids.here.has(id) {
		c.link.idReused(id, "the broker sends packet ids of QoS 2 again without DUP before their PUBREL; each is taken for the message that it had before")
	}
	store = !c.ids.knownQoS2(id, dup)
	c.ids.qos2.add(id)
	c.ids.here.add(id)
	c.checkQuota()
	// A known id is added once more: it changes nothing, and the PUBREC leaves
	// after the commits of everything before it.
	d.IDs = append(d.IDs, mqttetl.IDChange{ID: id, Op: mqttetl.IDAdded})
	d.acks = appendAck(d.acks, typePubrec, id)
	return store
}

// checkQuota says so, once, when the broker has more messages in flight than
// the receive maximum allows (MQTT 5 §3.3.4). They are taken all the same:
// Mosquitto 2.0 does it after a reconnect, where ending the connection would
// only bring the same messages again, and memory is bounded by the window.
func (c *conn) checkQuota() {
	if !c.v5 || c.ids.inFlight() <= c.link.receiveMaximum {
		return
	}
	c.acks.writtenSince(c.ids.release)
	if n := c.ids.inFlight(); n > c.link.receiveMaximum {
		c.link.overQuota(n)
	}
}

// pubrel ends a QoS 2 exchange: PUBCOMP follows the commit that removes the id.
func (c *conn) pubrel(body []byte) error {
	a, err := wire.ReadAck(typePubrel, body, c.v5)
	if err != nil {
		return err
	}
	id := a.ID
	d := c.batch()
	d.IDs = append(d.IDs, mqttetl.IDChange{ID: id, Op: mqttetl.IDRemoved})
	if c.v5 && !c.ids.qos2.has(id) {
		d.acks = append(d.acks, typePubcomp<<4, 3, body[0], body[1], reasonPacketNotFound)
	} else {
		d.acks = appendAck(d.acks, typePubcomp, id)
	}
	c.ids.qos2.remove(id)
	c.ids.here.remove(id)
	return nil
}

// connack looks at the answer to CONNECT before the control plane gets it.
func (c *conn) connack(body []byte) error {
	if len(body) < 2 || !c.v5 && (len(body) != 2 || body[1] > 5) {
		return wire.Malformed("a CONNACK of %d bytes", len(body))
	}
	if body[1] != 0 {
		c.setRefusal(refusalOf(packetConnack, c.v5, body[1:]))
		return nil
	}
	if c.v5 && len(body) < 3 {
		return errAnswered311
	}
	c.connected = true
	c.answer.Stop()
	if err := c.recallDropped(); err != nil {
		return err
	}
	if answer, _ := wire.ReadConnack(body, c.v5); c.v5 {
		c.link.sessionExpires(answer.Props)
	}
	return c.session(body[0]&1 != 0)
}

// publishFlags turns the low bits of a PUBLISH's first byte into Flags.
func publishFlags(first byte) mqttetl.Flags {
	f := mqttetl.Flags(first >> 1 & 3)
	if first&1 != 0 {
		f |= mqttetl.FlagRetain
	}
	if first&8 != 0 {
		f |= mqttetl.FlagDup
	}
	return f
}
