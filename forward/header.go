package forward

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/mqttetl/mqttetl"
)

// The headers of a forwarded message. Names are written exactly so; NATS
// compares them case-sensitively.
const (
	headerMsgID   = "Nats-Msg-Id"                 // <log id>-<seq>
	headerLastID  = "Nats-Expected-Last-Msg-Id"   // the chain, see the package comment
	headerLastSeq = "Nats-Expected-Last-Sequence" // its first link

	HeaderTime        = "Mqtt-Time"             // receipt, RFC 3339, nine digits of a second, UTC
	HeaderSource      = "Mqtt-Source"           // name of the configured source
	HeaderQoS         = "Mqtt-Qos"              // 1 or 2; absent for 0
	HeaderRetain      = "Mqtt-Retain"           // 1; absent for 0
	HeaderTopic       = "Mqtt-Topic"            // the whole topic, where the subject was shortened
	HeaderFormat      = "Mqtt-Payload-Format"   // MQTT 5 §3.3.2.3.2
	HeaderExpiry      = "Mqtt-Message-Expiry"   // MQTT 5 §3.3.2.3.3, seconds
	HeaderContentType = "Mqtt-Content-Type"     // MQTT 5 §3.3.2.3.9
	HeaderResponse    = "Mqtt-Response-Topic"   // MQTT 5 §3.3.2.3.5
	HeaderCorrelation = "Mqtt-Correlation-Data" // MQTT 5 §3.3.2.3.6, base64 (RFC 4648 §4)
	HeaderUser        = "Mqtt-User-"            // + name of a user property, MQTT 5 §3.3.2.3.7
)

// A field is one line of the header.
type field struct{ name, value string }

// wireMessage is a record as NATS gets it. Its strings are views into the
// encoder's buffer and valid until the next call of encode.
type wireMessage struct {
	subject string
	fields  []field
	header  int // length of the header on the wire in bytes
	body    []byte
}

// size is what the server's max_payload and the stream's max_msg_size count.
func (m *wireMessage) size() int { return m.header + len(m.body) }

// encoder turns records into messages without allocating once its buffers
// have grown.
type encoder struct {
	prefix string
	logID  string
	buf    []byte
	mark   int    // where in buf the value being written begins
	second int64  // the Unix second that stamp was made for
	stamp  []byte // the front of a time, up to its second; nil: none yet
	msg    wireMessage
}

// A link is what a message must directly follow in the stream: the record
// before it or, where an attempt begins, the stream's message of that number.
type link struct {
	record mqttetl.Seq // 0 for none
	stream uint64
}

// encode returns rec as a message that the stream takes only behind before.
func (c *encoder) encode(rec *mqttetl.Record, before link) *wireMessage {
	short := c.begin(rec)
	if before.record != 0 {
		c.buf = appendMsgID(c.buf, c.logID, before.record)
		c.end(headerLastID)
	} else {
		c.buf = strconv.AppendUint(c.buf, before.stream, 10)
		c.end(headerLastSeq)
	}
	return c.describe(rec, short)
}

// begin makes subject and id of rec and says whether the subject is shortened.
func (c *encoder) begin(rec *mqttetl.Record) (short bool) {
	m := &c.msg
	c.buf, m.fields, m.body = c.buf[:0], m.fields[:0], rec.Payload
	m.header = len("NATS/1.0\r\n\r\n")
	c.buf, short = AppendSubject(c.buf, c.prefix, rec.Topic)
	m.subject = view(c.buf)
	c.mark = len(c.buf)
	c.buf = appendMsgID(c.buf, c.logID, rec.Seq)
	c.end(headerMsgID)
	return short
}

// describe adds what else there is to say of rec.
func (c *encoder) describe(rec *mqttetl.Record, short bool) *wireMessage {
	c.appendTime(rec.Time)
	c.end(HeaderTime)
	c.buf = appendEscaped(c.buf, rec.Source)
	c.end(HeaderSource)
	if q := rec.Flags.QoS(); q != 0 {
		c.buf = strconv.AppendInt(c.buf, int64(q), 10)
		c.end(HeaderQoS)
	}
	if rec.Flags.Retain() {
		c.buf = append(c.buf, '1')
		c.end(HeaderRetain)
	}
	if short {
		c.buf = appendEscaped(c.buf, view(rec.Topic))
		c.end(HeaderTopic)
	}
	for p := range rec.Properties.All() {
		c.property(p)
	}
	return &c.msg
}

// appendTime appends a time in RFC 3339 with all nine digits, so that times sort
// as text; most are in the second of the one before.
func (c *encoder) appendTime(ns int64) {
	second, rest := ns/1e9, ns%1e9
	if rest < 0 {
		second, rest = second-1, rest+1e9
	}
	if c.stamp == nil || second != c.second {
		c.second, c.stamp = second, time.Unix(second, 0).UTC().AppendFormat(c.stamp[:0], "2006-01-02T15:04:05.")
	}
	c.buf = append(c.buf, c.stamp...)
	for unit := int64(1e8); unit > 0; unit /= 10 {
		c.buf = append(c.buf, '0'+byte(rest/unit%10))
	}
	c.buf = append(c.buf, 'Z')
}

// property adds the header of one property. Topic alias and subscription
// identifier are left out: they describe the connection to the broker and the
// subscription, not the message.
func (c *encoder) property(p mqttetl.Property) {
	switch p.ID {
	case mqttetl.PayloadFormat:
		c.buf = strconv.AppendUint(c.buf, uint64(p.Number), 10)
		c.end(HeaderFormat)
	case mqttetl.MessageExpiry:
		c.buf = strconv.AppendUint(c.buf, uint64(p.Number), 10)
		c.end(HeaderExpiry)
	case mqttetl.ContentType:
		c.buf = appendEscaped(c.buf, view(p.Value))
		c.end(HeaderContentType)
	case mqttetl.ResponseTopic:
		c.buf = appendEscaped(c.buf, view(p.Value))
		c.end(HeaderResponse)
	case mqttetl.CorrelationData:
		c.buf = base64.StdEncoding.AppendEncode(c.buf, p.Value)
		c.end(HeaderCorrelation)
	case mqttetl.UserProperty:
		c.buf = appendEscapedName(append(c.buf, HeaderUser...), view(p.Name))
		name := view(c.buf[c.mark:])
		c.mark = len(c.buf)
		c.buf = appendEscaped(c.buf, view(p.Value))
		c.end(name)
	}
}

// end makes what was appended to the buffer since the last end the value of a
// header. When appending has moved the buffer, the older views keep the array
// that they point into.
func (c *encoder) end(name string) {
	value := view(c.buf[c.mark:])
	c.mark = len(c.buf)
	c.msg.fields = append(c.msg.fields, field{name, value})
	c.msg.header += len(name) + len(": ") + len(value) + len("\r\n")
}

// view is b as a string without a copy. b must not change while it is in use.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// appendMsgID appends the Nats-Msg-Id of a record.
func appendMsgID(dst []byte, logID string, seq mqttetl.Seq) []byte {
	dst = append(append(dst, logID...), '-')
	return strconv.AppendUint(dst, uint64(seq), 10)
}

// parseMsgID returns the Seq in a Nats-Msg-Id of the log, ok = false for the
// id of any other writer.
func parseMsgID(id, logID string) (seq mqttetl.Seq, ok bool) {
	digits, found := strings.CutPrefix(id, logID+"-")
	n, err := strconv.ParseUint(digits, 10, 64)
	if !found || err != nil || string(strconv.AppendUint(nil, n, 10)) != digits {
		return 0, false
	}
	return mqttetl.Seq(n), true
}

// ParseTime reads the value of an Mqtt-Time header.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse %s: %w", HeaderTime, err)
	}
	return t, nil
}

// ownName is how the names of the server's own headers begin. Servers before 2.10
// look for them by a plain search through the whole header and give up at the
// first place that is not a name, so this word may stand nowhere else.
const ownName = "Nats-"

// appendEscaped appends a header value: valid UTF-8 as it is, but '%', control
// bytes, a space at either end, bytes that are not UTF-8 and the N of "Nats-"
// as %XX. UnescapeHeader is the inverse.
func appendEscaped(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == ' ' && i > 0 && i < len(s)-1,
			c > ' ' && c < utf8.RuneSelf && c != 0x7f && c != '%' && !(c == 'N' && strings.HasPrefix(s[i:], ownName)):
			dst = append(dst, c)
			i++
		case c < utf8.RuneSelf:
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
			i++
		default:
			n := 0
			dst, n = appendRune(dst, unsafe.Slice(unsafe.StringData(s[i:]), len(s)-i))
			i += n
		}
	}
	return dst
}

// appendEscapedName appends a user property's name as part of a header name:
// letters, digits and "!#$&'*+-.^_`|~" (RFC 9110 §5.6.2 without '%') as they
// are, every other byte, and the N of "Nats-", as %XX.
func appendEscapedName(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if nameByte[c] && !(c == 'N' && strings.HasPrefix(s[i:], ownName)) {
			dst = append(dst, c)
			continue
		}
		dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
	}
	return dst
}

var nameByte = func() (t [256]bool) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// UnescapeHeader returns what stood in MQTT for the value of Mqtt-Source,
// Mqtt-Topic, Mqtt-Content-Type, Mqtt-Response-Topic or Mqtt-User-<name>, and
// for the <name> of the last.
func UnescapeHeader(s string) ([]byte, error) {
	b, ok := appendUnescaped(make([]byte, 0, len(s)), s)
	if !ok {
		return nil, fmt.Errorf("header %q: a %% that two hexadecimal digits do not follow", s)
	}
	return b, nil
}
