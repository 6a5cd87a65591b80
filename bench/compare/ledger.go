package compare

import "sync/atomic"

// ledger is what one subscriber has got. Its reader calls take and
// arrived; what is not atomic belongs to the reader until that has ended.
type ledger struct {
	trial     uint16
	first     int // number of the first publisher that it hears
	topics    uint32
	emqtt     bool
	from      []track // by publisher, from first
	latencies *recorder

	distinct, duplicated uint64
	reordered, foreign   uint64

	// For others to see meanwhile.
	fresh, delivered atomic.Uint64 // distinct ones; with duplicates
	last             atomic.Int64  // when the latest came, Unix nanoseconds
}

// track is what has come from one publisher.
type track struct {
	seen  []uint64 // a bit for each counter
	after []uint32 // by topic: the counter behind the highest that has come
}

func newLedger(t *trial, subscriber, first, publishers int) *ledger {
	l := &ledger{
		trial: t.tag, first: first, topics: uint32(t.c.Topics), emqtt: t.cfg.EMQTT,
		from: make([]track, publishers), latencies: t.latencies.of(subscriber),
	}
	for i := range l.from {
		l.from[i].after = make([]uint32, t.c.Topics)
	}
	return l
}

// take enters a message that came at the given time and tells whether it is one
// of this trial.
func (l *ledger) take(topic, payload []byte, at int64) bool {
	var m mark
	var ok bool
	if l.emqtt {
		m, ok = readEmqttMark(topic, payload)
	} else {
		m, ok = readMark(payload)
	}
	i := int(m.publisher) - l.first
	if !ok || m.trial != l.trial || i < 0 || i >= len(l.from) {
		l.foreign++
		return false
	}
	l.from[i].enter(l, m.counter)
	l.latencies.record(at - m.at)
	return true
}

func (t *track) enter(l *ledger, n uint32) {
	word, bit := int(n>>6), uint64(1)<<(n&63)
	for word >= len(t.seen) {
		t.seen = append(t.seen, make([]uint64, max(1024, len(t.seen)))...)
	}
	if t.seen[word]&bit != 0 {
		l.duplicated++
		return
	}
	t.seen[word] |= bit
	l.distinct++
	if after := &t.after[n%l.topics]; n < *after {
		l.reordered++
	} else {
		*after = n + 1
	}
}

// arrived tells the others what has come by then.
func (l *ledger) arrived(at int64) {
	l.fresh.Store(l.distinct)
	l.delivered.Store(l.distinct + l.duplicated)
	l.last.Store(at)
}
