package forward

import (
	"hash/maphash"

	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// seed makes sums that nobody outside of this process can aim at.
var seed = maphash.MakeSeed()

// sumOf stands for all of the message that is the record's own: body, header and
// subject, without what says where in the stream it is to be. The order of the
// header's lines does not matter, nats.go sorts them.
func sumOf(m *natsmsg.Message) uint64 { return sumOfObject(m) + maphash.String(seed, m.Subject)*3 }

// sumOfObject is the same without the subject, which a stream may transform.
func sumOfObject(m *natsmsg.Message) uint64 {
	sum := maphash.Bytes(seed, m.Body)
	for name, value := range m.Fields() {
		if !natsmsg.Placing(name) {
			sum += sumLine(name, value)
		}
	}
	return sum
}

func sumLine(name, value string) uint64 {
	return maphash.String(seed, name)*5 ^ maphash.String(seed, value)
}

// readFound reads of a message of the stream what tells whose it is.
func readFound(m *natsmsg.Message) found {
	return found{there: true, Place: m.Place(), bytes: m.Size(), sum: sumOf(m), object: sumOfObject(m)}
}
