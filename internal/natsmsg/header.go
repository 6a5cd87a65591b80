package natsmsg

import (
	"encoding/base64"
	"fmt"
	"iter"
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
	HeaderMsgID   = "Nats-Msg-Id"                 // <log id>-<seq>
	HeaderLastID  = "Nats-Expected-Last-Msg-Id"   // by name, see the package comment
	HeaderLastSeq = "Nats-Expected-Last-Sequence" // by number

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
	HeaderLate        = "Mqtt-Late"             // a later record of the same log that precedes this one in the stream
	HeaderTag         = "Mqtt-Tag"              // proves that the log itself has put the record at this place of the stream
)

// Message is a message of NATS with its header. What an Encoder returns is a view
// into its buffers and valid until it is used again.
type Message struct {
	Subject string
	Header  string // as on the wire, with the empty line at its end
	Body    []byte
}

// headerLine begins every header.
const headerLine = "NATS/1.0\r\n"

// Size is what the server's max_payload and the stream's max_msg_size count.
func (m *Message) Size() int { return len(m.Header) + len(m.Body) }

// Fields yields the names and values of the header's lines; none if it is not a
// header of this version of the protocol.
func (m *Message) Fields() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for rest, ok := strings.CutPrefix(m.Header, headerLine); ok; {
			line, after, _ := strings.Cut(rest, "\r\n")
			if line == "" {
				return
			}
			name, value, _ := strings.Cut(line, ": ")
			if !yield(name, value) {
				return
			}
			rest = after
		}
	}
}

// Encoder turns records into messages without allocating once its buffers
// have grown.
type Encoder struct {
	Prefix string // first tokens of every subject
	LogID  string
	Tag    *Tagger // nil: no tags
	Zeros  int     // written before the record's number in its id, for ids that somebody else has used

	front   []byte // every header up to the record's number
	subject []byte
	header  []byte
	second  int64  // the Unix second that stamp was made for
	stamp   []byte // the front of a time, up to its second; nil: none yet
	known   subjects
	source  string        // the source and
	flags   mqttetl.Flags // the flags that
	origin  []byte        // these lines were made for; nil: none yet
	msg     Message
}

// A Link is what a message must directly follow in the stream: the record
// before it or, where that is 0, the stream's message of that number. The number is
// known in either case.
type Link struct {
	Record mqttetl.Seq
	Stream uint64
	Late   mqttetl.Seq // the last record that the stream holds, if it is a later one; else 0
}

// Encode returns rec as a message that follows nothing.
func (c *Encoder) Encode(rec *mqttetl.Record) *Message { return c.describe(rec, c.begin(rec)) }

// EncodeAfter returns rec as a message that the stream takes only after before.
func (c *Encoder) EncodeAfter(rec *mqttetl.Record, before Link) *Message {
	short := c.begin(rec)
	if before.Record != 0 {
		c.header = AppendMsgID(c.name(HeaderLastID), c.LogID, before.Record)
	} else {
		c.header = strconv.AppendUint(c.name(HeaderLastSeq), before.Stream, 10)
	}
	if before.Late != 0 {
		c.header = strconv.AppendUint(c.name(HeaderLate), uint64(before.Late), 10)
	}
	if c.Tag != nil {
		c.header = c.Tag.Append(c.name(HeaderTag), rec.Seq, before.Stream+1, before.Late)
	}
	return c.describe(rec, short)
}

// begin makes subject and id of rec and says whether the subject is shortened.
// The last line of the header has no end yet, here and in what follows.
func (c *Encoder) begin(rec *mqttetl.Record) (short bool) {
	if c.front == nil {
		c.front = append(append([]byte(headerLine+HeaderMsgID+": "), c.LogID...), '-')
	}
	c.subject, short = c.known.append(c.subject[:0], c.Prefix, rec.Topic)
	c.header = append(c.header[:0], c.front...)
	for range c.Zeros {
		c.header = append(c.header, '0')
	}
	c.header = strconv.AppendUint(c.header, uint64(rec.Seq), 10)
	return short
}

// describe adds what else there is to say of rec.
func (c *Encoder) describe(rec *mqttetl.Record, short bool) *Message {
	c.header = append(c.header, "\r\n"+HeaderTime+": "...)
	c.appendTime(rec.Time)
	if c.origin == nil || rec.Flags != c.flags || rec.Source != c.source {
		c.describeOrigin(rec)
	}
	c.header = append(c.header, c.origin...)
	if short {
		c.header = AppendEscaped(c.name(HeaderTopic), view(rec.Topic))
	}
	for p := range rec.Properties.All() {
		c.property(p)
	}
	c.header = append(c.header, "\r\n\r\n"...)
	c.msg = Message{view(c.subject), view(c.header), rec.Payload}
	return &c.msg
}

// describeOrigin makes the lines that tell source and flags, which are the same
// for most records that follow one another.
func (c *Encoder) describeOrigin(rec *mqttetl.Record) {
	c.source, c.flags = strings.Clone(rec.Source), rec.Flags
	c.origin = AppendEscaped(append(c.origin[:0], "\r\n"+HeaderSource+": "...), rec.Source)
	if q := rec.Flags.QoS(); q != 0 {
		c.origin = append(c.origin, "\r\n"+HeaderQoS+": "...)
		c.origin = append(c.origin, '0'+byte(q))
	}
	if rec.Flags.Retain() {
		c.origin = append(c.origin, "\r\n"+HeaderRetain+": 1"...)
	}
}

// name returns the header with the name of its next line, for the value.
func (c *Encoder) name(name string) []byte {
	return append(append(append(c.header, "\r\n"...), name...), ": "...)
}

// appendTime appends a time in RFC 3339 with all nine digits, so that times sort
// as text; most are in the second of the one before.
func (c *Encoder) appendTime(ns int64) {
	second, rest := ns/1e9, ns%1e9
	if rest < 0 {
		second, rest = second-1, rest+1e9
	}
	if c.stamp == nil || second != c.second {
		c.second, c.stamp = second, time.Unix(second, 0).UTC().AppendFormat(c.stamp[:0], "2006-01-02T15:04:05.")
	}
	const group = 3
	milli, micro, nano := rest/1e6*group, rest/1e3%1e3*group, rest%1e3*group
	b := append(append(c.header, c.stamp...), thousand[milli:milli+group]...)
	b = append(append(b, thousand[micro:micro+group]...), thousand[nano:nano+group]...)
	c.header = append(b, 'Z')
}

// thousand are the numbers from 000 to 999, one after the other.
var thousand = func() string {
	var b []byte
	for i := range 1000 {
		b = fmt.Appendf(b, "%03d", i)
	}
	return string(b)
}()

// property adds the header of one property. Topic alias and subscription
// identifier are left out: they describe the connection to the broker and the
// subscription, not the message.
func (c *Encoder) property(p mqttetl.Property) {
	switch p.ID {
	case mqttetl.PayloadFormat:
		c.header = strconv.AppendUint(c.name(HeaderFormat), uint64(p.Number), 10)
	case mqttetl.MessageExpiry:
		c.header = strconv.AppendUint(c.name(HeaderExpiry), uint64(p.Number), 10)
	case mqttetl.ContentType:
		c.header = AppendEscaped(c.name(HeaderContentType), view(p.Value))
	case mqttetl.ResponseTopic:
		c.header = AppendEscaped(c.name(HeaderResponse), view(p.Value))
	case mqttetl.CorrelationData:
		c.header = base64.StdEncoding.AppendEncode(c.name(HeaderCorrelation), p.Value)
	case mqttetl.UserProperty:
		c.header = appendEscapedName(append(c.header, "\r\n"+HeaderUser...), view(p.Name))
		c.header = AppendEscaped(append(c.header, ": "...), view(p.Value))
	}
}

// view is b as a string without a copy. b must not change while it is in use.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// AppendMsgID appends the Nats-Msg-Id of a record.
func AppendMsgID(dst []byte, logID string, seq mqttetl.Seq) []byte {
	dst = append(append(dst, logID...), '-')
	return strconv.AppendUint(dst, uint64(seq), 10)
}

// ParseMsgID returns the Seq in a Nats-Msg-Id of the log, ok = false for the
// id of any other writer. There may be zeros before it, see Encoder.
func ParseMsgID(id, logID string) (seq mqttetl.Seq, ok bool) {
	digits, found := strings.CutPrefix(id, logID+"-")
	if !found {
		return 0, false
	}
	return parseSeq(digits)
}

// parseSeq reads a number of 1 and more in decimal digits.
func parseSeq(digits string) (seq mqttetl.Seq, ok bool) {
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, false
	}
	return mqttetl.Seq(n), n > 0
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

// AppendEscaped appends a header value: valid UTF-8 as it is, but '%', control
// bytes, a space at either end, bytes that are not UTF-8 and the N of "Nats-"
// as %XX. UnescapeHeader is the inverse.
func AppendEscaped(dst []byte, s string) []byte {
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
