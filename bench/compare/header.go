package compare

import (
	"encoding/binary"
	"time"
)

// The start of a payload says whose message it is, in 16 bytes, big-endian:
//
//	our own      0 trial (2)   2 publisher (2)   4 counter (4)   8 time (8), Unix nanoseconds
//	emqtt-bench  0 counter (8), its cnt64        8 time (8), its ts, Unix milliseconds
//
// With emqtt-bench's, trial and publisher are read from the topic.
const headerSize = 16

// maxPublishers is what the header can tell apart.
const maxPublishers = 1 << 16

var (
	epoch     = time.Now()
	epochUnix = epoch.UnixNano()
)

// now is the time in Unix nanoseconds by the monotonic clock, read once instead
// of the two clocks that time.Now reads.
func now() int64 { return epochUnix + int64(time.Since(epoch)) }

// maker writes the headers of one publisher's messages.
type maker struct {
	trial, publisher uint16
	emqtt            bool
	next             uint32 // counter of the next message, from 0
}

// stamp writes the header of the next message, sent or to be sent at at.
func (m *maker) stamp(b []byte, at int64) {
	if m.emqtt {
		binary.BigEndian.PutUint64(b, uint64(m.next))
		binary.BigEndian.PutUint64(b[8:], uint64(at/int64(time.Millisecond)))
	} else {
		binary.BigEndian.PutUint64(b, uint64(m.trial)<<48|uint64(m.publisher)<<32|uint64(m.next))
		binary.BigEndian.PutUint64(b[8:], uint64(at))
	}
	m.next++
}

// mark is a header as it was read.
type mark struct {
	trial, publisher uint16
	counter          uint32
	at               int64
}

// readMark reads our own header; false: b is too short to have one.
func readMark(b []byte) (mark, bool) {
	if len(b) < headerSize {
		return mark{}, false
	}
	v := binary.BigEndian.Uint64(b)
	return mark{uint16(v >> 48), uint16(v >> 32), uint32(v), int64(binary.BigEndian.Uint64(b[8:]))}, true
}

// readEmqttMark reads emqtt-bench's header, and the rest from the topic or
// subject, which ends in trial, publisher and the number of the topic.
func readEmqttMark(topic, b []byte) (mark, bool) {
	if len(b) < headerSize {
		return mark{}, false
	}
	_, rest, ok0 := lastNumber(topic)
	publisher, rest, ok1 := lastNumber(rest)
	trial, _, ok2 := lastNumber(rest)
	return mark{
		uint16(trial), uint16(publisher), uint32(binary.BigEndian.Uint64(b)),
		int64(binary.BigEndian.Uint64(b[8:])) * int64(time.Millisecond),
	}, ok0 && ok1 && ok2
}

// lastNumber reads the decimal level at the end of a topic or subject and
// returns what is before it.
func lastNumber(topic []byte) (n int, before []byte, ok bool) {
	i, unit := len(topic)-1, 1
	for ; i >= 0 && topic[i] >= '0' && topic[i] <= '9'; i-- {
		n += int(topic[i]-'0') * unit
		unit *= 10
	}
	if i < 0 || unit == 1 || topic[i] != '/' && topic[i] != '.' {
		return 0, nil, false
	}
	return n, topic[:i], true
}

// filler is a payload of size bytes; the header is written over its start.
func filler(size int) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, size)
	for i, x := 0, uint32(1); i < size; i++ {
		x = x*1664525 + 1013904223
		b[i] = letters[(x>>8)%uint32(len(letters))]
	}
	return b
}
