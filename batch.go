package mqttetl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A Batch is a run of messages of one source on their way into the log,
// already in the encoding in which the log keeps them, so that a message is
// copied once between the socket and the log. A Batch is filled by one
// goroutine, handed to the log, and reused after Done.
//
// The encoding of one record, all integers unsigned LEB128 (encoding/binary
// Uvarint) but for the flags byte:
//
//	zigzag(time − time of the record before it, for the first: − 0)
//	flags (1 byte)   topic length   properties length   payload length
//	topic            properties     payload
type Batch struct {
	// Source is the name recorded with every message of the batch.
	Source string

	// Session and IDs are the changes to the QoS 2 state of one MQTT session
	// that must be as durable as the records: they are applied in the same
	// transaction. Session is the key under which the log keeps the set of
	// packet ids, IDs the changes in order. No IDs, no change.
	Session string
	IDs     []IDChange

	// Note, if it has a name, is kept in the log's environment and changed in the
	// same transaction: how far a source that can be read again has been read.
	// Whoever reads it back after a crash knows exactly which records are in.
	Note Note

	// Done is called exactly once for each time the batch is handed to the log:
	// with the Seq of the first record (0 if the batch holds none) and nil
	// after the transaction is on disk, or with an error if it never will be.
	// It runs on the goroutine that commits and must not block.
	Done func(first Seq, err error)

	// Patient says that nobody waits for Done: the log may leave the batch for the
	// next commit that its interval allows. One batch that is not takes all that
	// wait along.
	Patient bool

	// More is set by the log before Done: the next Done, which follows at once, is
	// of a batch of the same Session. What both cause can be done together.
	More bool

	buf  []byte
	n    int
	last int64 // time of the last record
	mark mark  // where an Open record began, for Abandon
	rest int   // bytes of its payload that have not come
}

// An IDChange changes the set of QoS 2 packet ids for which a PUBREC is due or
// sent and the PUBREL has not come (MQTT 5 §4.3.3).
type IDChange struct {
	ID uint16 // 0 with Op IDsCleared
	Op IDOp
}

// A Note is a few bytes under a name that a log keeps for somebody else. No
// value removes it.
type Note struct {
	Name  string
	Value []byte
}

// IDOp is what happens to a packet id.
type IDOp uint8

// The changes. IDsCleared empties the session's set: the broker has started a
// new session, so its packet ids mean new messages.
const (
	IDAdded IDOp = iota
	IDRemoved
	IDsCleared
)

type mark struct {
	buf, n int
	last   int64
}

// Len is the number of records in the batch.
func (b *Batch) Len() int { return b.n }

// Size is the length of the encoded records in bytes.
func (b *Batch) Size() int { return len(b.buf) }

// Bytes are the encoded records. They are valid until the batch changes.
func (b *Batch) Bytes() []byte { return b.buf }

// Last is the time of the newest appended record, the base of the next delta.
func (b *Batch) Last() int64 { return b.last }

// Empty says that handing over the batch would change nothing.
func (b *Batch) Empty() bool { return b.n == 0 && len(b.IDs) == 0 && b.Note.Name == "" }

// Cap is the capacity of the buffer in bytes, for a bound on what a pool keeps.
func (b *Batch) Cap() int { return cap(b.buf) }

// Reset empties the batch and keeps its buffer, Source, Session and Done.
func (b *Batch) Reset() {
	b.buf, b.n, b.last, b.IDs, b.Note = b.buf[:0], 0, 0, b.IDs[:0], Note{}
	b.More, b.Patient = false, false
}

// Free is Reset that gives the buffer back as well.
func (b *Batch) Free() {
	b.Reset()
	b.buf = nil
}

// Append adds a message received at time t (Unix nanoseconds) and copies its bytes.
func (b *Batch) Append(t int64, m Message) {
	p := b.room(maxHead + len(m.Topic) + len(m.Properties) + len(m.Payload))
	n := putHead(p, t-b.last, m.Flags, len(m.Topic), len(m.Properties), len(m.Payload))
	n += copy(p[n:], m.Topic)
	n += copy(p[n:], m.Properties)
	n += copy(p[n:], m.Payload)
	b.added(t, n)
}

// Open adds a message whose payload of the given length follows in calls of
// Write, because it is larger than what has been received of it. The batch
// must not be handed over before the payload is complete; Abandon takes the
// message back. Nothing is allocated for a payload before it is written.
func (b *Batch) Open(t int64, f Flags, topic []byte, p Properties, payload int) {
	b.mark = mark{len(b.buf), b.n, b.last}
	dst := b.room(maxHead + len(topic) + len(p))
	n := putHead(dst, t-b.last, f, len(topic), len(p), payload)
	n += copy(dst[n:], topic)
	n += copy(dst[n:], p)
	b.added(t, n)
	b.rest = payload
}

// room is the free part of the buffer, grown to size bytes if it is smaller.
func (b *Batch) room(size int) []byte {
	b.buf = slices.Grow(b.buf, size)
	return b.buf[len(b.buf):cap(b.buf)]
}

// added: n bytes of room hold a record of time t.
func (b *Batch) added(t int64, n int) {
	b.buf = b.buf[:len(b.buf)+n]
	b.n++
	b.last = t
}

// maxHead is the largest size of what comes before a record's topic: four
// integers of up to 10 bytes and the flags.
const maxHead = 41

// putHead writes what comes before a record's topic and returns its size.
func putHead(p []byte, delta int64, f Flags, topic, props, payload int) int {
	n := 1
	if p[0] = 0; delta != 0 {
		n = binary.PutVarint(p, delta)
	}
	p[n] = byte(f)
	n++
	for _, v := range [...]int{topic, props, payload} {
		if p[n] = byte(v); v < 0x80 {
			n++
		} else {
			n += binary.PutUvarint(p[n:], uint64(v))
		}
	}
	return n
}

// Write appends a piece of the payload of the message added by Open.
// The buffer doubles as they come, but not beyond what the payload needs.
func (b *Batch) Write(p []byte) (int, error) {
	if need := len(b.buf) + len(p); need > cap(b.buf) {
		grown := max(need, min(2*cap(b.buf), len(b.buf)+b.rest))
		b.buf = append(make([]byte, 0, grown), b.buf...)
	}
	b.buf = append(b.buf, p...)
	b.rest -= len(p)
	return len(p), nil
}

// Abandon takes back the message added by the last Open, with its payload.
func (b *Batch) Abandon() {
	b.buf, b.n, b.last = b.buf[:b.mark.buf], b.mark.n, b.mark.last
}

// ErrEncoding: bytes that are not records in the encoding of Batch.
var ErrEncoding = errors.New("malformed record encoding")

// DecodeRecords appends to dst the n records encoded in p, numbered from first
// and of the given source. The records' slices point into p. Bytes left over,
// missing or out of bounds are an error that wraps ErrEncoding and says at
// which offset; dst is then returned as it was.
func DecodeRecords(dst []Record, p []byte, n int, first Seq, source string) ([]Record, error) {
	at := len(dst)
	if n < 0 || n > len(p)/5+1 { // the shortest record has 5 bytes
		return dst, fmt.Errorf("%w: %d records in %d bytes", ErrEncoding, n, len(p))
	}
	dst = slices.Grow(dst, n)
	off, last := 0, int64(0)
	for i := range n {
		size, t, ok := decodeRecord(p[off:], last, &dst[:cap(dst)][len(dst)])
		if !ok {
			return dst[:at], fmt.Errorf("%w: record %d of %d at offset %d of %d", ErrEncoding, i, n, off, len(p))
		}
		dst = dst[:len(dst)+1]
		r := &dst[len(dst)-1]
		r.Seq, r.Source = first+Seq(i), source
		off, last = off+size, t
	}
	if off != len(p) {
		return dst[:at], fmt.Errorf("%w: %d bytes after record %d", ErrEncoding, len(p)-off, n)
	}
	return dst, nil
}

// decodeRecord reads one record from the front of p and returns its size and time.
func decodeRecord(p []byte, last int64, r *Record) (size int, t int64, ok bool) {
	delta, off := binary.Varint(p)
	if off <= 0 || off >= len(p) {
		return 0, 0, false
	}
	flags := Flags(p[off])
	off++
	var lens [3]int
	total := 0
	for i := range lens {
		v, k := uvarint(p[off:])
		if k <= 0 || v > uint64(len(p)) {
			return 0, 0, false
		}
		lens[i] = int(v)
		total += int(v)
		off += k
	}
	if total > len(p)-off {
		return 0, 0, false
	}
	topic, props := off+lens[0], off+lens[0]+lens[1]
	end := props + lens[2]
	r.Time = last + delta
	r.Flags = flags
	r.Topic = p[off:topic:topic]
	r.Properties = Properties(p[topic:props:props])
	r.Payload = p[props:end:end]
	return end, r.Time, true
}

// uvarint is binary.Uvarint with the one-byte case inlined.
func uvarint(p []byte) (uint64, int) {
	if len(p) > 0 && p[0] < 0x80 {
		return uint64(p[0]), 1
	}
	return binary.Uvarint(p)
}
