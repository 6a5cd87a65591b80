package session

import (
	"errors"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// MaxProperties bounds the properties of a PUBLISH, in bytes. They are headers
// for people and programs: everything after the log makes them several times as
// long, as JSON or as headers of NATS.
const MaxProperties = 1 << 20

// longFrame is the frame size, in bytes, from which a PUBLISH that is not
// wholly in the buffer goes into the batch piece by piece.
const longFrame = 32 << 10

// errNeedIDs: the next frame is of QoS 2, and the log has not been asked yet
// which ids of the session it knows.
var errNeedIDs = errors.New("packet ids not loaded")

// A reader makes batches of the bytes that one connection has brought. It knows
// no connection: what it has read is in its buffer, and a batch that is whole
// goes to handOver. One goroutine uses it, the one that calls Step.
type reader struct {
	*Session
	v5       bool
	control  Control
	judge    Judge // nil: everything is taken
	handOver func(*delivery)
	acks     *ackQueue // whose packet ids are free again

	in     input
	open   *delivery // the batch being filled, nil if none
	long   long
	ids    packetIDs
	begun  bool // the session has been agreed on
	reuses bool // the sender uses packet ids again before their PUBACK
	handed int  // messages of the last batch
	held   int  // bytes that the budget of unfinished messages bears
}

// long is a message that is longer than what has come of it.
type long struct {
	rest   int // bytes still to come
	fate   fate
	excess excess
}

// A fate is what happens to the rest of a long message.
type fate int

const (
	stored   fate = iota // it is in the open batch
	skipped              // it is known, or nobody wants it
	digested             // it is too large
)

// parse works through the buffer until it is drained but for an unfinished
// frame, or the control plane wants a pause.
func (r *reader) parse() (pause bool, err error) {
	for !pause {
		if r.long.rest > 0 && !r.continueLong() {
			return false, nil
		}
		r.takePlain()
		p := r.in.bytes()
		first, size, remaining, err := wire.FixedHeader(p)
		if err != nil || size == 0 {
			return false, err
		}
		if err := r.admit(first); err != nil {
			return false, err
		}
		if end := size + remaining; end <= len(p) {
			pause, err = r.frame(first, p[:end], p[size:end])
			if err == nil {
				r.in.skip(end)
			}
		} else {
			var more bool
			if more, err = r.unfinished(first, size, remaining); !more && err == nil {
				return false, nil
			}
		}
		if err != nil {
			return false, err
		}
	}
	return pause, nil
}

// admit judges a frame by its first byte, before the rest of it is waited for.
func (r *reader) admit(first byte) error {
	if err := r.control.Admit(first); err != nil {
		return err
	}
	if kind := first >> 4; !r.ids.loaded && (kind == wire.Pubrel || kind == wire.Publish && first&6 == 4) {
		return errNeedIDs
	}
	return nil
}

// frame takes one whole frame, of which body is what follows the fixed header.
func (r *reader) frame(first byte, whole, body []byte) (pause bool, err error) {
	switch first >> 4 {
	case wire.Publish:
		return false, r.publish(first, whole, body)
	case wire.Pubrel:
		return false, r.pubrel(body)
	}
	return r.control.Packet(first, whole, body)
}

// unfinished looks at a frame that is not wholly in the buffer. A long PUBLISH
// is begun in a batch of its own, once its header is there; more says so.
func (r *reader) unfinished(first byte, size, remaining int) (more bool, err error) {
	end := size + remaining
	if first>>4 != wire.Publish {
		if end > wire.MaxControl {
			return false, wire.Malformed("a packet of type %d with %d bytes", first>>4, end)
		}
		return false, nil
	}
	body := r.in.bytes()[size:]
	h, need, err := wire.PublishHead(first, remaining, body, r.limits())
	if err != nil || need > 0 || end < longFrame {
		return false, err
	}
	r.close() // nobody's acknowledgement waits for a long message
	store, err := r.look(first, end, &h, nil)
	if err != nil {
		return false, err
	}
	r.long.rest = remaining - h.Size
	switch {
	case !store:
		r.long.fate = skipped
	case r.tooLarge(end, &h):
		r.long.fate = digested
		r.long.excess.begin(first, end, &h, r.long.rest)
	default:
		r.long.fate = stored
		r.batch().Open(r.in.now, publishFlags(first), h.Topic, h.Props, r.long.rest)
		r.again.begin(first, &h)
	}
	r.in.skip(size + h.Size)
	return true, nil
}

// continueLong moves received bytes of a long message into the batch and says
// whether the message is complete.
func (r *reader) continueLong() bool {
	l := &r.long
	p := r.in.bytes()
	p = p[:min(len(p), l.rest)]
	switch l.fate {
	case stored:
		_, _ = r.open.Write(p) // never fails
		r.again.write(p)
	case digested:
		l.excess.write(p)
	}
	r.in.skip(len(p))
	l.rest -= len(p)
	switch {
	case l.rest > 0:
	case l.fate == digested:
		r.refuseLarge()
	case l.fate == stored && r.again.end():
		r.open.Abandon()
		r.open.tally.Received[1]--
	}
	return l.rest == 0
}

// limits are what the sender was told.
func (r *reader) limits() wire.Limits {
	return wire.Limits{V5: r.v5, Aliases: r.Aliases, Properties: MaxProperties}
}

// batch is the open batch.
func (r *reader) batch() *delivery {
	if r.open == nil {
		r.open = r.newDelivery()
	}
	return r.open
}

// close hands over the open batch.
func (r *reader) close() {
	d := r.open
	if d == nil || d.idle() {
		return
	}
	r.open = nil
	r.handed = d.Len()
	d.came = r.in.now
	r.handOver(d)
}

// discard drops what was not handed over: it was not acknowledged either.
func (r *reader) discard() {
	if r.long.rest > 0 && r.long.fate == stored {
		r.open.Abandon()
	}
	if r.open != nil {
		if r.open.Len() > 0 {
			r.again.forget() // what was not stored must not be known again
		}
		r.open.recycle()
	}
	r.open, r.long.rest = nil, 0
	// Batches on their way to the log keep the connection until they are there, but not these.
	r.in, r.ids = input{least: r.in.least}, packetIDs{}
	r.Unfinished.Give(r.held)
	r.held = 0
}

// charge has the budget of unfinished messages bear what this one takes by now.
func (r *reader) charge() error {
	held := 0
	if r.long.rest > 0 && r.long.fate == stored {
		held = r.open.Cap()
	}
	if n := len(r.in.bytes()); n > longFrame {
		held += 2 * n // the buffer grows twofold
	}
	if held == r.held {
		return nil
	}
	if !r.Unfinished.grow(r.held, held) {
		return &wire.Error{Code: wire.CodeQuota, What: "the unfinished messages of all clients together are too large"}
	}
	r.held = held
	return nil
}

// note leaves a note with the next batch.
func (r *reader) note(n mqttetl.Note) {
	if r.open != nil && r.open.Note.Name != "" && r.open.Note.Name != n.Name { // the last of a name is what counts
		r.close()
	}
	r.batch().Note = n
}

// publish takes one whole PUBLISH.
func (r *reader) publish(first byte, whole, body []byte) error {
	h, _, err := wire.PublishHead(first, len(body), body, r.limits())
	if err != nil {
		return err
	}
	payload := body[h.Size:]
	if store, err := r.look(first, len(whole), &h, payload); !store || err != nil {
		return err
	}
	if r.tooLarge(len(whole), &h) {
		e := &r.long.excess
		e.begin(first, len(whole), &h, len(payload))
		e.write(payload)
		r.refuseLarge()
		return nil
	}
	m := mqttetl.Message{
		Topic:      h.Topic,
		Payload:    payload,
		Properties: h.Props,
		Flags:      publishFlags(first),
	}
	r.batch().Append(r.in.now, m)
	return nil
}

// receive does what the QoS of a PUBLISH of size bytes asks for and says
// whether the message is to be stored. payload is nil if it has not come.
func (r *reader) receive(first byte, size int, h *wire.Head, payload []byte) (store bool, err error) {
	flags := publishFlags(first)
	wanted := h.Topic[0] != '$' || r.control.Reserved(h.Topic, payload, flags.QoS())
	switch flags.QoS() {
	case 0:
		store = true
	case 1:
		if payload != nil && r.again.takes(h, payload, flags.Dup() && !r.ids.qos1.has(h.ID)) {
			r.batch().acks = wire.AppendAck(r.batch().acks, wire.Puback, h.ID)
			break
		}
		store, err = r.receiveQoS1(h.ID, flags.Dup())
	case 2:
		store = r.receiveQoS2(h.ID, flags.Dup())
	}
	if err != nil {
		return false, err
	}
	store = store && wanted
	d := r.batch()
	if flags.Dup() && flags.QoS() > 0 {
		d.tally.Redelivered++
	}
	if store {
		d.tally.Received[flags.QoS()]++
		d.tally.Bytes += uint64(size)
	}
	return store, nil
}

func (r *reader) receiveQoS1(id uint16, dup bool) (store bool, err error) {
	if r.ids.qos1.has(id) {
		r.acks.writtenSince(r.ids.release)
	}
	if r.ids.qos1.has(id) && r.sentAgain(id, dup) {
		return false, nil
	}
	r.ids.qos1.add(id)
	if dup {
		r.ids.dups.add(id)
	}
	r.checkQuota()
	d := r.batch() // sentAgain may have begun another
	d.acks = wire.AppendAck(d.acks, wire.Puback, id)
	return true, nil
}

// sentAgain says whether a PUBLISH whose packet id awaits its PUBACK is the same
// message once more. MQTT 3.1.1 lets a sender send again while the connection
// lasts: then the message is on its way to the log already and will be
// acknowledged. Anything else is a sender that uses an id for two messages
// (MQTT 5 §2.2.1). Ending the connection would bring both again, for ever; so
// each is stored and acknowledged, and the fault is told. From then on DUP
// proves nothing, nor does it where the first of the two has it: both may be
// redeliveries of different messages.
func (r *reader) sentAgain(id uint16, dup bool) (again bool) {
	if !r.v5 && dup && !r.reuses && !r.ids.dups.has(id) {
		return true
	}
	if !dup && !r.reuses {
		r.reuses = true
		r.control.IDsReused()
	}
	r.idReused(id, "uses packet ids again before their PUBACK; all its messages are stored and acknowledged")
	return false
}

func (r *reader) receiveQoS2(id uint16, dup bool) (store bool) {
	if !dup && r.ids.here.has(id) {
		r.idReused(id, "sends packet ids of QoS 2 again without DUP before their PUBREL; each is taken for the message that it had before")
	}
	store = !r.ids.knownQoS2(id, dup)
	r.qos2.Store(true)
	r.ids.qos2.add(id)
	r.ids.here.add(id)
	r.checkQuota()
	d := r.batch()
	// A known id is added once more: it changes nothing, and the PUBREC leaves
	// after the commits of everything before it.
	d.IDs = append(d.IDs, mqttetl.IDChange{ID: id, Op: mqttetl.IDAdded})
	d.acks = wire.AppendAck(d.acks, wire.Pubrec, id)
	return store
}

// checkQuota says so, once, when the sender has more messages in flight than
// the receive maximum allows (MQTT 5 §3.3.4). They are taken all the same:
// Mosquitto 2.0 does it after a reconnect, where ending the connection would
// only bring the same messages again, and memory is bounded by the window.
func (r *reader) checkQuota() {
	if !r.v5 || r.ids.inFlight() <= r.ReceiveMaximum {
		return
	}
	r.acks.writtenSince(r.ids.release)
	if n := r.ids.inFlight(); n > r.ReceiveMaximum {
		r.overQuota(n)
	}
}

// pubrel ends a QoS 2 exchange: PUBCOMP follows the commit that removes the id.
func (r *reader) pubrel(body []byte) error {
	a, err := wire.ReadAck(wire.Pubrel, body, r.v5)
	if err != nil {
		return err
	}
	id := a.ID
	d := r.batch()
	d.IDs = append(d.IDs, mqttetl.IDChange{ID: id, Op: mqttetl.IDRemoved})
	if r.v5 && !r.ids.qos2.has(id) {
		d.acks = append(d.acks, wire.Pubcomp<<4, 3, body[0], body[1], wire.CodeIDNotFound)
	} else {
		d.acks = wire.AppendAck(d.acks, wire.Pubcomp, id)
	}
	r.ids.qos2.remove(id)
	r.ids.here.remove(id)
	return nil
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
