package prove

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/test/e2e"
)

// decodeBombs: payloads through a real broker that claim, repeat or nest what no
// process can hold, one a format. The messages before and after each make rows.
var decodeBombs = attack{
	name: "payloads that claim, repeat or nest: Sparkplug, CBOR, MessagePack, JSON, CSV, line protocol, gzip",
	prepare: func(h *hostile) error {
		if h.setup.settings.Routes == "" {
			h.setup.settings.Routes = "routes:\n"
		}
		for _, f := range bombFormats {
			h.setup.settings.Routes += fmt.Sprintf("  - {name: %[1]s, topic: '%[2]s', %[3]s, table: %[1]s, columns: {x: 'ANY %[4]s'}}\n", f.route(), f.topic, f.keys, f.value)
		}
		h.source("bombs", "url: \"{broker}\"")
		h.setup.settings.Sources = strings.ReplaceAll(h.setup.settings.Sources, `"bombs/#"`, `"bombs/#", "spBv1.0/bomb/#"`)
		return nil
	},
	run: func(ctx context.Context, h *hostile) error {
		var sent []func(i int64) string // payloads of each format
		for _, f := range bombFormats {
			bomb := f.bombs[h.rnd.IntN(len(f.bombs))]()
			sent = append(sent, func(i int64) string {
				if i == 1 {
					return string(bomb)
				}
				return f.good(byte(i))
			})
		}
		formats := int64(len(bombFormats))
		p := &e2e.Publisher{Broker: h.broker.URL, Run: "bombs", QoS: 1, Workers: 1,
			Topic:   func(i int64) string { return bombFormats[i%formats].topic },
			Payload: func(i int64) string { return sent[i%formats](i / formats) }}
		if err := p.Publish(ctx, int(3*formats)); err != nil {
			return err
		}
		for k, f := range bombFormats {
			for i := range int64(3) {
				if err := h.holds(ctx, f.topic, sent[k](i)); err != nil {
					return fmt.Errorf("%s, message %d: %w", f.name, i, err)
				}
			}
			if err := f.check(h, sent[k](1)); err != nil {
				return err
			}
		}
		return nil
	},
}

// bombFormat is a route whose messages are bombs among good ones.
type bombFormat struct {
	name, topic, keys string
	value             string // of a document, in jq
	good              func(i byte) string
	bombs             []func() []byte
}

func (f *bombFormat) route() string { return "bomb_" + f.name }

// check holds the route to have the rows of the good messages, and the bomb to be
// either rows or a dead letter.
func (f *bombFormat) check(h *hostile, bomb string) error {
	db, err := sql.Open("sqlite", "file:"+h.Archive()+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer db.Close()
	var good, other int
	if err := db.QueryRow(fmt.Sprintf(`SELECT coalesce(sum(CAST(x AS INTEGER) IN (0, 2)), 0), count(*) FROM %s`, f.route())).Scan(&good, &other); err != nil {
		return err
	}
	dead, err := e2e.DeadLetters(h.Archive(), mqttetl.TransformStage(f.route()))
	if err != nil {
		return err
	}
	if good < 2 || other < 3 && len(dead) == 0 {
		h.violate("%s: %d rows of 2 good messages, %d of all, %d dead letters; the bomb begins %.40q", f.name, good, other, len(dead), bomb)
	}
	return nil
}

const bombSize = 4<<20 - 4096 // below what a route decodes

// repeated is a bomb of units, # in which is another four digits each time.
func repeated(before, unit, after string) func() []byte {
	return func() []byte {
		p := bytes.NewBufferString(before)
		for n := 0; p.Len() < bombSize-len(after)-len(unit); n++ {
			if p.WriteString(strings.ReplaceAll(unit, "#", fmt.Sprintf("%c%c%c%c", 'a'+n/17576%26, 'a'+n/676%26, 'a'+n/26%26, 'a'+n%26))); n == 1<<21 {
				break
			}
		}
		p.WriteString(after)
		return p.Bytes()
	}
}

func field(n protowire.Number, body []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), body)
}

// metric is one of Sparkplug: its name, its data type, what else it has.
func metric(name string, datatype byte, value []byte) []byte {
	return field(2, append(append(field(1, []byte(name)), 0x20, datatype), value...))
}

// template is a birth of one template, of which the member is repeated.
func template(member func(n int) []byte) func() []byte {
	return func() []byte {
		var p []byte
		for n := 0; len(p) < bombSize; n++ {
			p = append(p, field(2, member(n))...)
		}
		return metric("t", 19, field(18, p))
	}
}

func member(name string) []byte { return append(field(1, []byte(name)), 0x20, 3, 0x50, 1) }

func gzipped(p []byte, times int) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	w.Write(p)
	w.Close()
	return bytes.Repeat(b.Bytes(), times)
}

var bombFormats = []bombFormat{
	{"sparkplug", "spBv1.0/bomb/NBIRTH/node", "decode: sparkplug_b", ".value",
		func(i byte) string { return string(metric("x", 3, []byte{0x50, i})) },
		[]func() []byte{
			template(func(n int) []byte { return member(fmt.Sprint(n)) }),
			template(func(int) []byte { return member("x") }),
			template(func(int) []byte { return nil }),
			repeated("", "\x12\x06\x0a\x04#", ""),
			func() []byte { // templates in templates
				var nested []byte
				for range 900 {
					nested = field(18, field(2, append(field(1, []byte("t")), nested...)))
				}
				m := metric("m", 19, nested)
				return bytes.Repeat(m, bombSize/len(m))
			},
		}},
	{"cbor", "bombs/cbor", "decode: cbor", ".x",
		func(i byte) string { return "\xa1\x61x" + string([]byte{i}) },
		[]func() []byte{
			repeated("\x9b\x00\x00\x00\xff\xff\xff\xff\xff", "\x01", ""),
			repeated("", "\x9a\x00\x3f\xff\xff", ""),
			repeated("\xbf", "\x64#\x01", "\xff"),
			repeated("\x9f", "\xa0", "\xff"),
			repeated(strings.Repeat("\x9f", 900), "\x01", strings.Repeat("\xff", 900)),
		}},
	{"msgpack", "bombs/msgpack", "decode: msgpack", ".x",
		func(i byte) string { return "\x81\xa1x" + string([]byte{i}) },
		[]func() []byte{
			repeated("", "\xdd\xff\xff\xff\xff", ""),
			repeated("", "\xdf\xff\xff\xff\xff\xa0", ""),
			repeated("\xdf\x00\x80\x00\x00", "\xa4#\x01", ""),
			repeated("\xc6\xff\xff\xff\xff", "a", ""),
		}},
	{"json", "bombs/json", "decode: json", ".x",
		func(i byte) string { return fmt.Sprintf(`{"x":%d}`, i) },
		[]func() []byte{
			repeated(`{"x":7`, `,"#":1`, "}"),
			repeated("", "[", ""),
			repeated("[0", ",{}", "]"),
			repeated("[0", ","+strings.Repeat("[", 900)+strings.Repeat("]", 900), "]"),
			repeated("[0", ","+strings.Repeat("9", 900), "]"),
		}},
	{"csv", "bombs/csv", "decode: csv", ".x",
		func(i byte) string { return fmt.Sprintf("x\n%d\n", i) },
		[]func() []byte{
			repeated("", "#,", "\n"),
			repeated("x\n", "9\n", ""),
			repeated("x,y", ",", "\n"),
			repeated("x,y\n\"", `""`, "\"\n"),
		}},
	{"influx", "bombs/influx", "decode: influx", ".fields.x",
		func(i byte) string { return fmt.Sprintf("m x=%d", i) },
		[]func() []byte{
			repeated("m x=7", ",#=1", "\n"),
			repeated("m", ",#=1", " x=7\n"),
			repeated("", "m x=7\n", ""),
			repeated("m x=\"", `\"`, "\"\n"),
		}},
	{"gzip", "bombs/gzip", "decode: json, decompress: gzip", ".x",
		func(i byte) string { return string(gzipped(fmt.Appendf(nil, `{"x":%d}`, i), 1)) },
		[]func() []byte{
			func() []byte { return gzipped(make([]byte, 64<<20), 12) },
			func() []byte { return gzipped([]byte(" "), 100_000) },
		}},
}
