package natsmsg

import (
	"strings"

	"github.com/mqttetl/mqttetl"
)

// Place is what a message says of its own place in a stream.
type Place struct {
	ID   string      // Nats-Msg-Id, "" for none
	Tag  string      // Mqtt-Tag
	Late mqttetl.Seq // Mqtt-Late
}

// Place reads it. It keeps nothing of the message.
func (m *Message) Place() (p Place) {
	for name, value := range m.Fields() {
		switch name {
		case HeaderMsgID:
			p.ID = strings.Clone(value)
		case HeaderTag:
			p.Tag = strings.Clone(value)
		case HeaderLate:
			p.Late, _ = parseSeq(value)
		}
	}
	return p
}

// Placing says that a header is about the message's place, and not the record's own.
func Placing(name string) bool {
	switch name {
	case HeaderMsgID, HeaderLastID, HeaderLastSeq, HeaderLate, HeaderTag:
		return true
	}
	return false
}
