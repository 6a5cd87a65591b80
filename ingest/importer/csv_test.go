package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl"
)

// A quote within a field that does not begin with one is a character, and one
// that does not close costs its own line only.
func TestQuotes(t *testing.T) {
	for text, want := range map[string]string{
		"a,5\" pipe\nb,6\n":                                  `5" pipe|6 (0)`,
		"a,5\" pipe\nb,6\" pipe\nc,7\n":                      `5" pipe|6" pipe|7 (0)`,
		"a,\"5 inch\nb,6\nc,7\n":                             `6|7 (1)`,
		"a,\"5 inch\nb,6\nc,7":                               `6|7 (1)`,
		"a,\"5 inch\r\nb,6\r\nc,7\r\n":                       `6|7 (1)`,
		"a,\"5 inch\nb,\"six\"\nc,\"7\n\"\"8\"\n":            "six|7\n\"8 (1)",
		"a,\"5\nb,\"6\nc,\"7\nd,8\n":                         `8 (3)`,
		"a,\"5\"x,\"\nb,6\n":                                 `6 (1)`,
		"a,\"one\ntwo \"\"q\"\", two\r\nthree\"\r\nb,\"\"\n": "one\ntwo \"q\", two\r\nthree| (0)",
		"a,\"x\nb,\"y\nz\"\nc,7\n":                           "y\nz|7 (1)",
	} {
		recs, s, err := dry(Config{}, []byte("topic,payload\n"+text))
		var payloads []string
		for _, r := range recs {
			payloads = append(payloads, string(r.Payload))
		}
		if got := fmt.Sprintf("%s (%d)", strings.Join(payloads, "|"), s.Rejected); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
		if lines := int64(strings.Count(strings.TrimSuffix(text, "\n"), "\n") + 2); s.Lines != lines || s.Bytes != int64(len(text)+14) {
			t.Errorf("%q: %d lines and %d bytes read, want %d and %d", text, s.Lines, s.Bytes, lines, len(text)+14)
		}
	}
}

// drawCSV makes rows, some over several lines, of which those with a quote that
// does not close are bad.
func drawCSV(t *rapid.T) (text string, good []string, bad int64) {
	var b strings.Builder
	b.WriteString("topic,payload\n")
	for i := range rapid.IntRange(1, 60).Draw(t, "rows") {
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			fmt.Fprintf(&b, "t,\"p%d\n", i)
			bad++
			continue
		case 1:
			fmt.Fprintf(&b, "t,\"p\n\n%d\"\n", i)
			good = append(good, fmt.Sprintf("p\n\n%d", i))
		case 2:
			fmt.Fprintf(&b, "t,\"p, \"\"%d\"\n", i)
			good = append(good, fmt.Sprintf("p, \"%d", i))
		case 3:
			fmt.Fprintf(&b, "t,p\"%d\r\n", i)
			good = append(good, fmt.Sprintf("p\"%d", i))
		default:
			fmt.Fprintf(&b, "t,p%d\n", i)
			good = append(good, fmt.Sprintf("p%d", i))
		}
	}
	return b.String(), good, bad
}

func TestQuotesOfAllKinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, good, bad := drawCSV(t)
		recs, s, err := dry(Config{}, []byte(text))
		var got []string
		for _, r := range recs {
			got = append(got, string(r.Payload))
		}
		if err != nil || s.Rejected != bad || strings.Join(got, "|") != strings.Join(good, "|") || s.Bytes != int64(len(text)) {
			t.Fatalf("%q: %q, %d rejected, %d bytes, %v; want %q, %d", text, got, s.Rejected, s.Bytes, err, good, bad)
		}
	})
}

// However many quotes do not close, only what is behind the last is kept.
func TestKeptLinesAreLetGo(t *testing.T) {
	text := "topic,payload\n" + strings.Repeat("t,\"5\n"+strings.Repeat("t,0123456789\n", 50), 2000)
	m, err := New(Config{Name: "f", In: strings.NewReader(text), Dry: func(*mqttetl.Record) error { return nil }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context()); err != nil || m.Stats().Rejected != 2000 || m.Stats().Imported != 100_000 {
		t.Errorf("%+v, %v", m.Stats(), err)
	}
	if n := cap(m.lines.again); n > 16<<10 {
		t.Errorf("%d bytes are kept of a text of %d, in which 700 lie between two quotes", n, len(text))
	}
}

// Ended after each batch, again and again, it has every row once.
func TestRowsResumedAfterEveryBatch(t *testing.T) {
	var text strings.Builder
	text.WriteString("topic,payload,source\n")
	var want []string
	bad := int64(0)
	for i := range 400 {
		source := fmt.Sprint("s", i/3%2)
		switch i % 7 {
		case 2:
			fmt.Fprintf(&text, "t,\"%d,%s\n", i, source)
			bad++
		case 5:
			fmt.Fprintf(&text, "t,\"%d\nmore\",%s\n", i, source)
			want = append(want, fmt.Sprintf("%s %d\nmore", source, i))
		default:
			fmt.Fprintf(&text, "t,%d,%s\n", i, source)
			want = append(want, fmt.Sprintf("%s %d", source, i))
		}
	}
	dir := t.TempDir()
	for round := 0; ; round++ {
		l, stop := running(t, dir)
		s, err := imports(t, &stopping{l, 5}, Config{Name: "f", Rejected: filepath.Join(dir, "rejected"), Resume: true}, text.String())
		stop()
		if err == nil {
			if round < 10 || s.Before+s.Lines != int64(strings.Count(text.String(), "\n")) {
				t.Errorf("finished in round %d behind line %d", round, s.Before+s.Lines)
			}
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
	}
	if got := logged(t, dir); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
}

// full is a log that has no room.
type full struct {
	Log
	taken []*mqttetl.Batch
}

func (f *full) Append(b *mqttetl.Batch)     { f.taken = append(f.taken, b) }
func (f *full) Note(string) ([]byte, error) { return nil, nil }

// An import is stopped while the log is full: what is in flight is answered when
// the log is closed.
func TestStoppedWhileTheLogIsFull(t *testing.T) {
	for _, lines := range []int{1, 200_000} { // all in flight, and more than may be
		synctest.Test(t, func(t *testing.T) {
			log := &full{}
			text := bytes.Repeat([]byte("{\"topic\":\"a\",\"payload\":\"0123456789012345678901234567890123456789012345678901234567890123456789\"}\n"), lines)
			m, err := New(Config{Name: "f", In: bytes.NewReader(text), Rejected: filepath.Join(t.TempDir(), "r")}, log)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- m.Run(ctx) }()
			synctest.Wait() // for room
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%d lines: %v", lines, err)
			}
			if len(log.taken) == 0 {
				t.Error("nothing was in flight")
			}
			for _, b := range log.taken {
				b.Done(0, errKilled)
			}
		})
	}
}

// What is given twice counts as given last.
func TestFlagsGivenTwice(t *testing.T) {
	for text, want := range map[string]mqttetl.Flags{
		`{"topic":"t","qos":1,"qos":2,"payload":""}`: 2, `{"topic":"t","qos":2,"qos":1,"retain":1,"retain":0,"payload":""}`: 1,
		`{"topic":"t","qos":1,"retain":0,"retain":true,"dup":1,"payload":""}`: 1 | mqttetl.FlagRetain | mqttetl.FlagDup,
	} {
		recs, _, err := dry(Config{}, []byte(text))
		if err != nil || len(recs) != 1 || recs[0].Flags != want {
			t.Errorf("%s: %+v, %v, want %v", text, recs, err, want)
		}
	}
}
