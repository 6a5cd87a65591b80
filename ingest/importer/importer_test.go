package importer

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/export"
	"github.com/mqttetl/mqttetl/sink/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dry reads a text and returns the records of its good lines.
func dry(cfg Config, text []byte) (recs []mqttetl.Record, s Stats, err error) {
	cfg.Name, cfg.In, cfg.Source = "test", bytes.NewReader(text), "import"
	cfg.Dry = func(r *mqttetl.Record) error {
		c := *r
		c.Topic, c.Payload, c.Properties = bytes.Clone(r.Topic), bytes.Clone(r.Payload), mqttetl.Properties(bytes.Clone(r.Properties))
		recs = append(recs, c)
		return nil
	}
	m, err := New(cfg, nil)
	if err != nil {
		return nil, s, err
	}
	err = m.Run(context.Background())
	return recs, m.Stats(), err
}

func drawRecord(t *rapid.T) mqttetl.Record {
	raw := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 40), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }))
	topic := rapid.SliceOfN(rapid.Byte().Filter(func(b byte) bool { return b != 0 && b != '+' && b != '#' }), 1, 20)
	return mqttetl.Record{
		Time: rapid.Int64Range(-6e18, 6e18).Draw(t, "time"), Source: rapid.SampledFrom([]string{"a", "plant \"1\"", "ü"}).Draw(t, "source"),
		Message: mqttetl.Message{Topic: topic.Draw(t, "topic"), Payload: raw.Draw(t, "payload"),
			Flags:      mqttetl.Flags(rapid.IntRange(0, 2).Draw(t, "qos") | rapid.IntRange(0, 3).Draw(t, "bits")<<2),
			Properties: rapid.SampledFrom([]mqttetl.Properties{nil, {1, 1}, {0x26, 0, 1, 'a', 0, 1, 0xff}}).Draw(t, "properties")},
	}
}

// What was exported comes back as it was, as NDJSON and as CSV.
func TestReadsWhatWasExported(t *testing.T) {
	for name, c := range map[string]struct {
		head string
		enc  export.Encoder
	}{"ndjson": {"", &export.JSON{}}, "csv": {export.CSVHeader, &export.CSV{}}} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				want := rapid.SliceOfN(rapid.Custom(drawRecord), 1, 5).Draw(t, "records")
				text := []byte(c.head)
				for i := range want {
					text = c.enc.Append(text, &want[i])
				}
				got, stats, err := dry(Config{}, text)
				if err != nil || stats.Rejected != 0 || len(got) != len(want) {
					t.Fatalf("%d of %d records, %+v, %v\n%s", len(got), len(want), stats, err, text)
				}
				for i := range got {
					a, b := &got[i], &want[i]
					if a.Time != b.Time || a.Source != b.Source || a.Flags != b.Flags || !bytes.Equal(a.Topic, b.Topic) ||
						!bytes.Equal(a.Payload, b.Payload) || !bytes.Equal(a.Properties, b.Properties) {
						t.Fatalf("%+v became %+v in\n%s", b, a, text)
					}
				}
			})
		})
	}
}

func at(s string) int64 {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t.UnixNano()
}

func TestForms(t *testing.T) {
	for _, c := range []struct {
		name, format, columns, line string
		time, topic, payload        string
		flags                       mqttetl.Flags
	}{
		{"%j", "", "", `{"tst":"2026-01-02T03:04:05.678901+0100","topic":"a/b","qos":1,"retain":1,"payloadlen":2,"mid":7,"payload":"hi"}`,
			"2026-01-02T02:04:05.678901Z", "a/b", "hi", 1 | mqttetl.FlagRetain},
		{"%J object", "", "", `{"tst":"2026-01-02T03:04:05.678901Z+0000","topic":"a","qos":0,"retain":0,"payloadlen":9,"payload":{"a": 1}}`, "2026-01-02T03:04:05.678901Z", "a", `{"a": 1}`, 0},
		{"mosquitto_sub %j", "", "", `{"tst":"2026-01-02T03:04:05.678901Z+0000","topic":"a","qos":0,"retain":0,"payloadlen":4,"payload":"21.5"}`, "2026-01-02T03:04:05.678901Z", "a", "21.5", 0},
		{"mosquitto_sub %j of a leap day in Rome", "", "", `{"tst":"2024-02-29T03:04:05.678901Z+0100","topic":"a","qos":0,"retain":0,"payloadlen":4,"payload":"21.5"}`, "2024-02-29T02:04:05.678901Z", "a", "21.5", 0},
		{"%J number", "", "", `{"tst":"2026-01-02T03:04:05.6+0000","topic":"a","qos":0,"retain":0,"payloadlen":4,"payload":21.5}`, "2026-01-02T03:04:05.6Z", "a", "21.5", 0},
		{"%J string", "", "", `{"time":1767323045,"topic":"a","payloadlen":4,"payload":"hi"}`, "2026-01-02T03:04:05Z", "a", `"hi"`, 0},
		{"%J empty", "", "", `{"time":1767323045123,"topic":"a","payloadlen":0,"payload":null}`, "2026-01-02T03:04:05.123Z", "a", "", 0},
		{"escapes", "", "", `{"time":"1767323045.5","topic":"\u00fc\/\"","payload":"\ud83c\udf21\n\u0000"}`, "2026-01-02T03:04:05.5Z", "ü/\"", "🌡\n\x00", 0},
		{"text", "%I %t %p", "", "2026-01-02T03:04:05+0000 a/b hello world", "2026-01-02T03:04:05Z", "a/b", "hello world", 0},
		{"Unix time", "%U|%q|%r|%t|%x", "", "1767323045.123456789|2|1|a|00ff", "2026-01-02T03:04:05.123456789Z", "a", "\x00\xff", 2 | mqttetl.FlagRetain},
		{"percent", "%% %t=%p", "", "% a=b=c", "now", "a", "b=c", 0},
		{"csv", "", "time=ts,topic=t,payload=value", "ts,t,other,value\n1767323045,\"a,\"\"b\"\"\",x,\"1\n2\"\n", "2026-01-02T03:04:05Z", `a,"b"`, "1\n2", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			recs, stats, err := dry(Config{Format: c.format, Columns: c.columns}, []byte(c.line))
			if c.time == "" {
				if stats.Rejected != 1 || err != nil {
					t.Errorf("%+v, %v", stats, err)
				}
				return
			}
			if err != nil || len(recs) != 1 {
				t.Fatalf("%d records, %+v, %v", len(recs), stats, err)
			}
			r := recs[0]
			if c.time != "now" && r.Time != at(c.time) || string(r.Topic) != c.topic || string(r.Payload) != c.payload || r.Flags != c.flags || r.Source != "import" {
				t.Errorf("%v %q %q %v %s", r.When(), r.Topic, r.Payload, r.Flags, r.Source)
			}
		})
	}
}

func TestBadLines(t *testing.T) {
	for _, line := range []string{
		`{`, `{}`, `{"topic":"a","payload":""} x`, `{"topic":"a","payload":}`, `{"topic":"a","qos":3,"payload":""}`, `{"topic":"a","retain":2,"payload":""}`, `{"topic":"a/#","payload":""}`, `{"topic":"","payload":""}`,
		"{\"topic\":\"a\",\"payload\":\"\xff\"}", "{\"topic\":\"a\",\"payload\":\"a\x00\"}", `{"topic":"a","payload":"\ud800"}`, `{"topic":"a","payload":"\x"}`,
		`{"topic":"a","payload_base64":"?"}`, `{"topic":"a","payload":"a","payload_base64":"YQ=="}`, `{"topic":"a","payload":"abc","payloadlen":7}`,
		`{"topic":"a","time":"yesterday","payload":""}`, `{"topic":"a","time":"9999-01-01T00:00:00Z","payload":""}`, `{"topic":"a","properties":{"x":1}}`, `{"topic":1,"payload":""}`,
		`{"topic":"a","x":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`, `{"topic":"` + strings.Repeat("a", 65536) + `"}`, `not JSON`,
	} {
		recs, stats, err := dry(Config{Format: "ndjson"}, []byte("{\"topic\":\"before\",\"payload\":\"\"}\n"+line+"\n\n{\"topic\":\"after\",\"payload\":\"\"}"))
		if err != nil || len(recs) != 2 || stats.Rejected != 1 || stats.Imported != 2 {
			t.Errorf("%.60q: %d records, %+v, %v", line, len(recs), stats, err)
		}
	}
}

func TestRefusesWhatItCannotKnow(t *testing.T) {
	for text, want := range map[string]string{
		"a/b 21.5\n": "neither JSON", "PK\x03\x04xl": "a zip archive or a spreadsheet", "<?xml version=\"1.0\"?>": "XML or HTML", "[2026-01-05 19:52:56] a/b x\n": "neither JSON", "{\x00\"\x00": "UTF-16LE", "\x00{\x00\"": "UTF-16BE",
		"2026-01-05T19:52:56Z\t*                 \t{}\n": "--topic owntracks/jane/phone", "time,topic,value\n": "--columns payload=", "time,topic,payload,payload\n": "two columns", "a,b,1\n": "--header time,topic,payload", "\xff\xfe{\x00": "UTF-16", "\xfe\xff\x00{": "iconv -f UTF-16 -t UTF-8 FILE |", "\x1f\x8bno": "cut short", "\x1f\x8bno header of gzip": "the compressed file is damaged: gzip: invalid header",
		"\xfd7zXZ\x00\x00\x04\xe6": "xz -dc FILE |", "BZh91AY&SY\x12\x34": "bzip2 -dc FILE |",
	} {
		if _, _, err := dry(Config{}, []byte(text)); err == nil || !strings.Contains(err.Error()+mqttetl.Hint(err), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for _, f := range []string{"%t%p", "%p", "%t %y", "plain"} {
		if _, _, err := dry(Config{Format: f}, []byte("x\n")); err == nil {
			t.Errorf("format %q is accepted", f)
		}
	}
	for _, c := range []string{"", "topic", "when=ts,topic=t", "topic=absent"} {
		_, _, err := dry(Config{Format: "csv", Columns: c}, []byte("ts,t\n"))
		if _, ok := errors.AsType[OptionError](err); !ok {
			t.Errorf("columns %q: %v", c, err)
		}
		_, _, err = dry(Config{Format: "csv", Columns: c}, []byte("ts\tt\n"))
		if c != "topic" && c != "when=ts,topic=t" && mqttetl.Hint(err) != `--separator '\t' if that is between the columns` {
			t.Errorf("columns %q: hint %q", c, mqttetl.Hint(err))
		}
	}
	for _, s := range []string{"", ",,", "é", "\n", `"`, `\x`} {
		if _, err := ParseSeparator(s); err == nil {
			t.Errorf("separator %q is accepted", s)
		}
	}
}

func compressed(t *testing.T, how string, text []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if how == "zstd" {
		w, _ = zstd.NewWriter(&b)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCompressedAndCutShort(t *testing.T) {
	var text []byte
	for i := range 50000 {
		text = fmt.Appendf(text, "{\"topic\":\"t/%d\",\"payload\":\"%x\"}\n", i%7, i*i*i)
	}
	for _, how := range []string{"gzip", "zstd"} {
		whole := compressed(t, how, text)
		recs, _, err := dry(Config{}, whole)
		if err != nil || len(recs) != 50000 {
			t.Errorf("%s: %d records, %v", how, len(recs), err)
		}
		recs, stats, err := dry(Config{}, whole[:len(whole)*2/3])
		if !errors.Is(err, ErrCut) || !errors.Is(err, mqttetl.ErrDamaged) || len(recs) < 1000 || stats.Rejected > 0 {
			t.Errorf("%s cut short: %d records, %+v, %v", how, len(recs), stats, err)
		}
		for bit := range 8 { // one of which the decompressor must see at once, and the others in a check sum
			bad := bytes.Clone(whole)
			bad[len(bad)/2] ^= 1 << bit
			recs, _, err = dry(Config{}, bad)
			if !errors.Is(err, mqttetl.ErrDamaged) || len(recs) < 1000 || !strings.Contains(err.Error(), ": the compressed file is ") || !strings.Contains(err.Error(), "after line ") {
				t.Errorf("%s with bit %d turned: %d records, %v", how, bit, len(recs), err)
			}
		}
	}
}

// endless is a line that never ends.
type endless struct{ left int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), e.left))
	for i := range p[:n] {
		p[i] = 'x'
	}
	e.left -= int64(n)
	return n, nil
}

func TestVeryLongLine(t *testing.T) {
	before, after := "{\"topic\":\"before\",\"payload\":\"\"}\n", "\n{\"topic\":\"after\",\"payload\":\"\"}\n"
	l, _, err := newLines(io.MultiReader(strings.NewReader(before), &endless{maxLine + 1}, strings.NewReader(after)))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`{"topic":"before","payload":""}`, "", `{"topic":"after","payload":""}`} {
		line, err := l.next()
		if string(line) != want || (i == 1) != errors.Is(err, errLong) {
			t.Errorf("line %d: %.40q, %v", i+1, line, err)
		}
	}
	if want := int64(len(before) + maxLine + 1 + len(after)); l.offset != want || l.number != 3 {
		t.Errorf("%d bytes, %d lines, want %d", l.offset, l.number, want)
	}
}

// running is an open log whose commit loop runs until stop.
func running(t testing.TB, dir string) (l *wal.Log, stop func()) {
	l, err := wal.Open(dir, wal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return l, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		l.Close()
	}
}

// logged reads every payload of a closed log.
func logged(t *testing.T, dir string) (payloads []string) {
	each(t, dir, func(rec *mqttetl.Record) { payloads = append(payloads, rec.Source+" "+string(rec.Payload)) })
	return payloads
}

// times reads every time of a closed log.
func times(t *testing.T, dir string) (times []int64) {
	each(t, dir, func(rec *mqttetl.Record) { times = append(times, rec.Time) })
	return times
}

func each(t *testing.T, dir string, do func(*mqttetl.Record)) {
	r, err := wal.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, last, err := r.Bounds()
	if err != nil {
		t.Fatal(err)
	}
	for seq := mqttetl.Seq(0); seq < last; {
		recs, err := r.Behind(seq)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			do(&rec)
			seq = rec.Seq
		}
	}
}

// stopping is a Log that takes so many batches and then no more, as a process
// that is killed.
type stopping struct {
	Log
	left int
}

var errKilled = errors.New("killed")

func (s *stopping) Append(b *mqttetl.Batch) {
	if s.left--; s.left < 0 {
		b.Done(0, errKilled)
		return
	}
	s.Log.Append(b)
}

// An import that is ended after each batch, again and again, has every line
// once, and every bad line in the file of rejected ones once.
func TestResumedAfterEveryBatch(t *testing.T) {
	dir := t.TempDir()
	var text bytes.Buffer
	var want []string
	bad := 0
	for i := range 2000 {
		if i%37 == 5 {
			fmt.Fprintf(&text, "bad %d\n", i)
			bad++
			continue
		}
		fmt.Fprintf(&text, "{\"topic\":\"t\",\"payload\":\"%d\",\"source\":\"s%d\"}\n", i, i/20%2)
		want = append(want, fmt.Sprintf("s%d %d", i/20%2, i))
	}
	logDir, rejected := filepath.Join(dir, "log"), filepath.Join(dir, "f.rejected")
	for round := 0; ; round++ {
		l, stop := running(t, logDir)
		m, err := New(Config{Name: "f", In: bytes.NewReader(text.Bytes()), Source: "import", Rejected: rejected, Resume: true}, &stopping{l, 7})
		if err != nil {
			t.Fatal(err)
		}
		err = m.Run(t.Context())
		stop()
		if err == nil {
			if round < 10 {
				t.Errorf("finished in round %d", round)
			}
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
	}
	got := logged(t, logDir)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	lines, err := os.ReadFile(rejected)
	if err != nil || bytes.Count(lines, []byte("\n")) != bad || !bytes.Contains(lines, []byte("6\tbyte 1: 'b' where '{' is expected\tbad 5\n")) {
		t.Errorf("%d rejected lines, want %d, %v\n%.200s", bytes.Count(lines, []byte("\n")), bad, err, lines)
	}
	l, stop := running(t, logDir)
	defer stop()
	m, err := New(Config{Name: "f", In: bytes.NewReader(text.Bytes()), Rejected: rejected, Resume: true}, l)
	if err != nil || !m.Stats().Done || m.Stats().Before != 2000 {
		t.Errorf("resumed at the end: %+v, %v", m.Stats(), err)
	}
}

// BenchmarkImport measures lines a second into a real log.
func BenchmarkImport(b *testing.B) {
	enc := &export.JSON{}
	var text []byte
	const lines = 100_000
	for i := range lines {
		text = enc.Append(text, &mqttetl.Record{Seq: mqttetl.Seq(i), Time: 1_700_000_000_000_000_000 + int64(i)*1e6, Source: "plant",
			Message: mqttetl.Message{Topic: fmt.Appendf(nil, "factory/line%d/temp", i%100), Payload: fmt.Appendf(nil, `{"value":%d,"pad":"%0100d"}`, i, i)}})
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		l, stop := running(b, b.TempDir())
		m, err := New(Config{Name: "f", In: bytes.NewReader(text), Rejected: filepath.Join(b.TempDir(), "r")}, l)
		if err == nil {
			err = m.Run(b.Context())
		}
		if err != nil || m.Stats().Imported != lines {
			b.Fatal(m.Stats(), err)
		}
		stop()
	}
	b.ReportMetric(float64(b.N)*lines/b.Elapsed().Seconds(), "lines/s")
}

// Any separator does what a comma does.
func TestSeparator(t *testing.T) {
	for _, flag := range []string{";", `\t`, "\t", "|"} {
		sep, err := ParseSeparator(flag)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll("topic~payload~time\na/b~\"x~\"\"y\"~1767323045\n", "~", string(sep))
		recs, _, err := dry(Config{Separator: sep}, []byte(text))
		if err != nil || len(recs) != 1 || string(recs[0].Topic) != "a/b" || string(recs[0].Payload) != "x"+string(sep)+`"y` {
			t.Errorf("%q: %+v, %v", flag, recs, err)
		}
	}
}
