package decode

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// allocated is all that the process has allocated, garbage included.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// cost decodes a payload and returns what was allocated for it: all of it for
// a format of one document; else up to the first document and the most between
// two, for a document is gone when the next one comes. Garbage counts, so the
// memory in use is less.
func cost(d Decoder, topic string, payload []byte) (bytes uint64, took time.Duration, err error) {
	begun, start := time.Now(), allocated()
	last := start
	var first, most uint64
	docs := 0
	err = d.Decode(topic, payload, func(any) error {
		if docs++; docs > 1000 && docs%64 > 1 { // to ask takes longer than a document
			return nil
		}
		now := allocated()
		if first == 0 {
			first = now - start
		} else if docs <= 1000 || docs%64 == 1 {
			most = max(most, now-last)
		}
		last = allocated()
		return nil
	})
	if first == 0 {
		first = allocated() - start
	} else if docs <= 1000 {
		most = max(most, allocated()-last)
	}
	return first + most, time.Since(begun), err
}

// The bounds that hold for every payload of every format. The measured slack is
// what the counters of allocation lag behind. The time is that of a slow machine
// with others at work, and a decoder that reads a payload twice: what grows with
// the square takes minutes for 4 MiB.
const (
	measuredSlack = 1 << 20
	timeBase      = 500 * time.Millisecond
	timePerMiB    = 1500 * time.Millisecond
)

func checkCost(t *testing.T, d Decoder, topic string, payload []byte) {
	t.Helper()
	limit := slowdown * uint64(MemoryFactor*len(payload)+MemoryBase+measuredSlack)
	most := slowdown * (timeBase + timePerMiB*time.Duration(len(payload)>>10)/1024)
	for try := 1; ; try++ { // others allocate in this process, and the machine is busy: once is enough
		got, took, err := cost(d, topic, payload)
		if got <= limit && took <= most {
			return
		}
		if try == 3 {
			t.Errorf("payload of %d bytes: %d bytes allocated, most %d; %v, most %v; error %v", len(payload), got, limit, took, most, err)
			return
		}
	}
}

// bomb is the most that a format has in few bytes: before, unit as often as it goes, after.
type bomb struct {
	name, format        string
	before, unit, after string
	distinct            bool // # in unit is a number in base 36
}

func (b *bomb) payload(size int) []byte {
	var p bytes.Buffer
	p.WriteString(b.before)
	for n := 46656; p.Len() < size-len(b.after); n++ {
		if b.distinct {
			p.WriteString(strings.ReplaceAll(b.unit, "#", strconvBase36(n)))
		} else {
			p.WriteString(b.unit)
		}
	}
	p.WriteString(b.after)
	return p.Bytes()
}

func strconvBase36(n int) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	return string([]byte{digits[n/46656%36], digits[n/1296%36], digits[n/36%36], digits[n%36]})
}

var bombs = []bomb{
	{"numbers", "json", "[0", ",1", "]", false},
	{"floats", "json", "[0", ",1e9", "]", false},
	{"empty objects", "json", "[0", ",{}", "]", false},
	{"empty arrays", "json", "[0", ",[]", "]", false},
	{"small objects", "json", "[0", `,{"":1}`, "]", false},
	{"objects of nine", "json", "[0", `,{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1}`, "]", false},
	{"members", "json", `{"a":1`, `,"#":1`, "}", true},
	{"nested in nested", "json", "[0", "," + strings.Repeat("[", 900) + strings.Repeat("]", 900), "]", false},
	{"deep", "json", "", "[", "", false},
	{"escapes", "json", `"`, `\n`, `"`, false},
	{"long integers", "json", "[0", "," + strings.Repeat("9", 900), "]", false},
	{"no quotes", "json", "{a:1", ",#:1", "}", true},
	{"missing", "json", "[", ",", "x]", false},
	{"bad text", "json", "[\"", "\xff", "\"]", false},
	{"bad texts", "json", "[1,", "'\xff',", "]", false},
	{"words", "json", "[1,", "None,", "]", false},
	{"unknown words", "json", "[", "A,", "0", false},
	{"documents", "json", "{}x", "{}", "", false},
	{"UTF-16", "json", "\xff\xfe", "[\x00", "", false},
	{"text", "auto", "", "a ", "", false},

	{"numbers", "cbor", "\x9f", "\x01", "\xff", false},
	{"large numbers", "cbor", "\x9f", "\x18\xff", "\xff", false},
	{"empty maps", "cbor", "\x9f", "\xa0", "\xff", false},
	{"small maps", "cbor", "\x9f", "\xa1\x60\x01", "\xff", false},
	{"members", "cbor", "\xbf", "\x64#\x01", "\xff", true},
	{"empty texts", "cbor", "\x9f", "\x60", "\xff", false},
	{"empty byte strings", "cbor", "\x9f", "\x40", "\xff", false},
	{"pieces", "cbor", "\x7f", "\x60", "\xff", false},
	{"small pieces", "cbor", "\x7f", "\x61a", "\xff", false},
	{"tags", "cbor", "\x9f", "\xc5\x01", "\xff", false},
	{"times", "cbor", "\x9f", "\xc1\x01", "\xff", false},
	{"bignums", "cbor", "\x9f", "\xc2\x41\x01", "\xff", false},
	{"endless arrays", "cbor", "\x9f", "\x9f\xff", "\xff", false},
	{"endless in endless", "cbor", strings.Repeat("\x9f", 900), "\x01", strings.Repeat("\xff", 900), false},
	{"endless maps in endless", "cbor", strings.Repeat("\xbf\x01", 900), "\x01\x01", strings.Repeat("\xff", 900), false},
	{"a claim", "cbor", "\x9b\x00\x00\x00\xff\xff\xff\xff\xff", "\x01", "", false},
	{"a claim of a map", "cbor", "\xbb\x00\x00\x00\xff\xff\xff\xff\xff", "\x01", "", false},
	{"a claim of text", "cbor", "\x7b\x00\x00\x00\xff\xff\xff\xff\xff", "\x01", "", false},
	{"claims", "cbor", "", "\x9a\x00\x3f\xff\xff", "", false},
	{"bad text", "cbor", "\x7a\x00\x0f\x00\x00", "\xff", "", false},

	{"numbers", "msgpack", "\xdd\x00\x80\x00\x00", "\x01", "", false},
	{"large numbers", "msgpack", "\xdd\x00\x08\x00\x00", "\xcc\xff", "", false},
	{"claims", "msgpack", "", "\xdd\xff\xff\xff\xff", "", false},
	{"claims of maps", "msgpack", "", "\xdf\xff\xff\xff\xff\xa0", "", false},
	{"empty maps", "msgpack", "\xdd\x00\x80\x00\x00", "\x80", "", false},
	{"empty arrays", "msgpack", "\xdd\x00\x80\x00\x00", "\x90", "", false},
	{"empty texts", "msgpack", "\xdd\x00\x80\x00\x00", "\xa0", "", false},
	{"empty bytes", "msgpack", "\xdd\x00\x80\x00\x00", "\xc4\x00", "", false},
	{"small maps", "msgpack", "\xdd\x00\x80\x00\x00", "\x81\xa0\x01", "", false},
	{"members", "msgpack", "\xdf\x00\x80\x00\x00", "\xa4#\x01", "", true},
	{"extensions", "msgpack", "\xdd\x00\x80\x00\x00", "\xc7\x00\x05", "", false},
	{"times", "msgpack", "\xdd\x00\x80\x00\x00", "\xd6\xff\x00\x00\x00\x01", "", false},
	{"a claim of bytes", "msgpack", "\xc6\xff\xff\xff\xff", "a", "", false},

	{"rows", "csv", "a\n", "1\n", "", false},
	{"columns", "csv", "", "#,", "\n", true},
	{"a long field", "csv", "a\n", "x", "\n", false},
	{"long fields", "csv", "a\n", strings.Repeat("x", 1000) + ",", "\n", false},
	{"commas", "csv", "a,b\n", ",", "\n", false},
	{"quoted commas", "csv", "a,b\n", "\"\n\",", "\n", false},
	{"rows without an end", "csv", "a,b\n", ",\n", "", false},
	{"empty columns", "csv", "a,b", ",", "\n", false},
	{"quotes", "csv", "a,b\n\"", "\"\"", "\"\n", false},
	{"bad rows", "csv", "a,b\n", "\"x\"y\n", "", false},
	{"bad text", "csv", "a\n", "\xff", "\n", false},

	{"fields", "influx", "m a=1", ",#=1", "\n", true},
	{"tags", "influx", "m", ",#=1", " f=1\n", true},
	{"lines", "influx", "", "m f=1\n", "", false},
	{"bad lines", "influx", "", "m\n", "", false},
	{"a long text", "influx", "m f=\"", "\\\"", "\"\n", false},
	{"a long name", "influx", "m ", "a", "\n", false},
	{"a long value", "influx", "m f=", "\x01", "\n", false},
	{"escapes", "influx", "m,a=", "\\,", " f=1", false},
	{"bad text", "influx", "m f=\"", "\xff", "\"\n", false},

	{"text", "text", "", "a", "", false},
	{"bad text", "text", "", "\xff", "", false},
	{"raw", "raw", "", "\xff", "", false},
	{"number", "number", "", "9", "", false},

	{"empty metrics", "sparkplug_b", "", "\x12\x00", "", false},
	{"named metrics", "sparkplug_b", "", "\x12\x06\x0a\x04#", "", true},
	{"aliases", "sparkplug_b", "", "\x12\x05\x0a\x01a\x10\x01", "", false},
}

// protobufBombs are made of one field of sparkplug_b.proto each.
func protobufBombs() []bomb {
	lengths := func(num protowire.Number, body string) string {
		return string(protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), body))
	}
	return []bomb{
		{"empty metrics", "protobuf", "", lengths(2, ""), "", false},
		{"named metrics", "protobuf", "", lengths(2, lengths(1, "#"+"...")[:3]+"#"), "", false},
		{"templates", "protobuf", "", lengths(2, lengths(18, "")), "", false},
		{"data sets", "protobuf", "", lengths(2, lengths(17, lengths(4, ""))), "", false},
		{"packed types", "protobuf", "", lengths(2, lengths(17, lengths(3, strings.Repeat("\x01", 1000)))), "", false},
		{"unknown", "protobuf", "", lengths(99, ""), "", false},
	}
}

// sparkplugBombs are one metric in which something is repeated.
func sparkplugBombs(size int) map[string][]byte {
	field := func(num protowire.Number, body []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), body)
	}
	many := func(unit []byte) []byte { return bytes.Repeat(unit, size/len(unit)) }
	metric := func(value []byte, datatype uint64) []byte {
		m := field(1, []byte("m"))
		m = protowire.AppendVarint(protowire.AppendTag(m, 4, protowire.VarintType), datatype)
		return field(2, append(m, value...))
	}
	member := append(field(1, []byte("x")), 0x20, 3, 0x50, 1)
	var nested []byte
	for range 900 {
		nested = field(18, field(2, append(field(1, []byte("t")), nested...)))
	}
	bits := many([]byte{0x55})
	n := uint32(8 * len(bits))
	return map[string][]byte{
		"members":         metric(field(18, many(field(2, member))), 19),
		"empty members":   metric(field(18, many([]byte{0x12, 0})), 19),
		"parameters":      metric(field(18, many(field(3, field(1, []byte("p"))))), 19),
		"empty keys":      metric(field(9, append(many([]byte{0x0a, 0}), many([]byte{0x12, 0})...)), 3),
		"property sets":   metric(field(9, append(field(1, []byte("k")), field(2, field(10, many([]byte{0x0a, 0})))...)), 3),
		"columns":         metric(field(17, append(many([]byte{0x12, 0}), many([]byte{0x18, 1})...)), 16),
		"rows":            metric(field(17, many([]byte{0x22, 0})), 16),
		"cells":           metric(field(17, append(append(field(2, []byte("a")), 0x18, 1), many(field(4, field(1, []byte{8, 1})))...)), 16),
		"a wide row":      metric(field(17, append(append(many([]byte{0x12, 0}), many([]byte{0x18, 1})...), field(4, many([]byte{0x0a, 0}))...)), 16),
		"bytes as array":  metric(field(16, many([]byte{1})), 22),
		"booleans":        metric(field(16, append([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}, bits...)), 32),
		"strings":         metric(field(16, many([]byte{0})), 33),
		"nested":          bytes.Repeat(field(2, append(field(1, []byte("m")), nested...)), max(1, size/len(nested)/2)),
		"packed types":    metric(field(17, field(3, many([]byte{1}))), 16),
		"members by name": metric(field(18, namedMembers(size)), 19),
	}
}

func namedMembers(size int) (p []byte) {
	for n := 0; len(p) < size; n++ {
		m := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), fmt.Sprint(n))
		p = protowire.AppendBytes(protowire.AppendTag(p, 2, protowire.BytesType), append(m, 0x20, 3, 0x50, 1))
	}
	return p
}

// TestBombs: whatever a payload claims or repeats, decoding takes memory and
// time in proportion to its size.
func TestBombs(t *testing.T) {
	for _, b := range append(bombs, protobufBombs()...) {
		t.Run(b.format+" "+b.name, func(t *testing.T) {
			for _, size := range []int{256 << 10, 4<<20 - 4096} {
				checkCost(t, bombDecoder(t, b.format), "spBv1.0/g/NBIRTH/n", b.payload(size))
			}
		})
	}
}

func bombDecoder(t testing.TB, format string) Decoder {
	o := Options{Lenient: true}
	if format == "protobuf" {
		o.Descriptor, o.Message = sparkplugDescriptor(t), string(payloadType(t).FullName())
	}
	return mustNew(t, format, o)
}

func TestSparkplugBombs(t *testing.T) {
	for _, size := range []int{64 << 10, 1 << 20, 2 << 20} {
		for name, payload := range sparkplugBombs(size) {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				d := bombDecoder(t, "sparkplug_b")
				checkCost(t, d, "spBv1.0/g/NBIRTH/n", payload)
				checkCost(t, d, "spBv1.0/g/NDATA/n", payload)
			})
		}
	}
}

// TestTemplateOfMany: the members of a template are found by name and by alias
// without a search through all of them.
func TestTemplateOfMany(t *testing.T) {
	field := func(num protowire.Number, body []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), body)
	}
	const members = 10_000
	var birth, data []byte
	for n := range members {
		alias := protowire.AppendVarint([]byte{0x10}, uint64(n+1))
		birth = append(birth, field(2, append(append(field(1, []byte(fmt.Sprintf("member/with/a/long/name/%d", n))), alias...), 0x20, 3, 0x50, 7))...)
		data = append(data, field(2, append(alias, 0x50, 9))...)
	}
	template := func(members []byte) []byte {
		return field(2, append(append(field(1, []byte("t")), 0x20, 19), field(18, members)...))
	}
	d := mustNew(t, "sparkplug_b", Options{})
	if _, err := all(d, "spBv1.0/g/NBIRTH/n", template(birth)); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	docs, err := all(d, "spBv1.0/g/NDATA/n", template(data))
	if took := time.Since(begun); err != nil || took > slowdown*150*time.Millisecond {
		t.Errorf("%v after %v", err, took)
	}
	if doc, ok := docs[0].(object); !ok || doc["value"].(object)["metrics"].(object)["member/with/a/long/name/9999"] != 9 {
		t.Errorf("got %.200v", docs[0])
	}
}

// TestWideRows: what is refused is a row of too many fields, not a payload of many.
func TestWideRows(t *testing.T) {
	d := mustNew(t, "csv", Options{Header: []string{"a", "b"}})
	rows := strings.Repeat("\"x\n,\"\"\",y\n", maxFields)
	if docs, err := all(d, "", []byte(rows)); err != nil || len(docs) != maxFields {
		t.Errorf("%d rows, %v", len(docs), err)
	}
	wide := strings.Repeat("\"\n\",", maxFields) + "x\n"
	if _, err := all(d, "", []byte(wide)); text(err) != "payload is refused: a row has more than 50000 fields or 1048576 bytes" {
		t.Errorf("%v", err)
	}
	broken := strings.Repeat("1,3.5\"\n2,x\n", maxFields/2)
	if docs, err := all(d, "", []byte(broken)); err == nil || !strings.Contains(err.Error(), "bare") {
		t.Errorf("%d rows, %v", len(docs), err)
	}
}

// FuzzBomb: no format takes more than its bounds for what is repeated in a payload.
func FuzzBomb(f *testing.F) {
	formats := []string{"json", "auto", "cbor", "msgpack", "csv", "influx", "text", "number", "protobuf", "sparkplug_b"}
	decoders := map[string]Decoder{}
	for i, format := range formats {
		decoders[format] = bombDecoder(f, format)
		for _, b := range append(bombs, protobufBombs()...) {
			if b.format == format {
				f.Add(uint8(i), []byte(b.before), []byte(b.unit), []byte(b.after), b.distinct)
			}
		}
	}
	f.Fuzz(func(t *testing.T, format uint8, before, unit, after []byte, distinct bool) {
		const size = 1 << 19
		if len(unit) == 0 || len(before)+len(unit)+len(after) > size {
			return
		}
		name := formats[int(format)%len(formats)]
		b := bomb{before: string(before), unit: string(unit), after: string(after), distinct: distinct}
		checkCost(t, decoders[name], "spBv1.0/g/NBIRTH/n", b.payload(size))
	})
}

// TestRefusedForMemory: the reason says what the limit is.
func TestRefusedForMemory(t *testing.T) {
	for _, format := range []string{"json", "cbor", "msgpack"} {
		var b *bomb
		for i := range bombs {
			if bombs[i].format == format && bombs[i].name == map[string]string{"json": "empty objects"}[format] || bombs[i].format == format && bombs[i].name == "empty maps" {
				b = &bombs[i]
			}
		}
		err := bombDecoder(t, format).Decode("", b.payload(4<<20-4096), func(any) error { return nil })
		if !errors.Is(err, errMemory) {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// A decoder that takes longer than it may ends, whatever it is doing.
func TestLateDecodersEnd(t *testing.T) {
	numbers := "[" + strings.Repeat("1,", 20_000) + "1]"
	var members []byte
	for i := range 20_000 {
		m := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), fmt.Sprint("m", i))
		members = protowire.AppendBytes(protowire.AppendTag(members, 2, protowire.BytesType), m)
	}
	for _, c := range []struct{ format, topic, payload string }{
		{"json", "", numbers}, {"auto", "", numbers}, {"json", "", numbers[:len(numbers)-1]},
		{"cbor", "", "\x9a\x00\x01\x86\xa0" + strings.Repeat("\x01", 100_000)},
		{"msgpack", "", "\xdd\x00\x01\x86\xa0" + strings.Repeat("\x01", 100_000)},
		{"influx", "", "m a0=1" + strings.Repeat(",a=1", 20_000)},
		{"sparkplug_b", "spBv1.0/g/NBIRTH/n", string(members)},
	} {
		d := mustNew(t, c.format, Options{Lenient: true, Late: func() bool { return true }})
		if _, err := all(d, c.topic, []byte(c.payload)); !errors.Is(err, ErrSlow) {
			t.Errorf("%s: %v", c.format, err)
		}
		asked := false
		d = mustNew(t, c.format, Options{Lenient: true, Late: func() bool { asked = true; return false }})
		if _, err := all(d, c.topic, []byte(c.payload)); err != nil || !asked {
			t.Errorf("%s, in time: %v, asked %v", c.format, err, asked)
		}
	}
}
