package session

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"unicode/utf8"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// validTopic is the rule of MQTT 5 §1.5.4: UTF-8 without NUL. Most topics are
// ASCII, which takes two operations for eight bytes.
func validTopic(topic []byte) bool {
	return plainASCII(topic) || bytes.IndexByte(topic, 0) < 0 && utf8.Valid(topic)
}

// plainASCII says that all bytes of p are from 1 to 127.
func plainASCII(p []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	var bad uint64
	if len(p) < 8 {
		for _, b := range p {
			bad |= uint64(b) | (uint64(b) - 1)
		}
		return bad&high == 0
	}
	last := binary.LittleEndian.Uint64(p[len(p)-8:])
	bad = last | (last - ones)
	for ; len(p) > 8; p = p[8:] {
		x := binary.LittleEndian.Uint64(p)
		bad |= x | (x - ones) // the lowest NUL borrows and so sets its high bit
	}
	return bad&high == 0
}

// topicProperty is the name of the user property that holds the topic as it
// came, in base64, in several parts if it is long.
const topicProperty = "mqttetl-topic"

// Limits of what mendTopic makes: a topic of MQTT, and what fits into a value of
// a property in base64.
const (
	longestTopic = 65535
	topicPart    = 48000
)

// mendTopic replaces a topic that is not UTF-8 without NUL. MQTT wants the
// connection closed (§1.5.4); but a broker that has let such a message through
// would send it again at the next connection, and what is queued after it would
// never come. Nor may it go further as it is: a row that cannot be read spoils
// the query that meets it. So the bad bytes, and %, are written %XX, and the
// topic as it came is added to the message as a user property.
func (r *reader) mendTopic(h *wire.Head) {
	if validTopic(h.Topic) {
		return
	}
	r.Counters.BadTopic()
	if n := r.badTopics.Count(); n > 0 {
		r.Logger.Warn(r.Sender+" sends topics that are not UTF-8 without NUL; the messages are stored under an escaped topic",
			"messages", n, "topic", string(escapeTopic(h.Topic)))
	}
	props := bytes.Clone(h.Props)
	for rest := h.Topic; len(rest) > 0; {
		part := rest[:min(len(rest), topicPart)]
		rest = rest[len(part):]
		value := base64.StdEncoding.AppendEncode(nil, part)
		props = mqttetl.Property{ID: mqttetl.UserProperty, Name: []byte(topicProperty), Value: value}.Append(props)
	}
	h.Topic, h.Props = escapeTopic(h.Topic), props
}

// escapeTopic writes what a topic cannot hold, and %, as %XX.
func escapeTopic(topic []byte) []byte {
	const hex = "0123456789ABCDEF"
	var out []byte
	for len(topic) > 0 {
		r, n := utf8.DecodeRune(topic)
		next := topic[:n]
		if r == utf8.RuneError && n == 1 || r == 0 || r == '%' {
			next = []byte{'%', hex[topic[0]>>4], hex[topic[0]&15]}
		}
		if len(out)+len(next) > longestTopic {
			break
		}
		out = append(out, next...)
		topic = topic[n:]
	}
	return out
}
