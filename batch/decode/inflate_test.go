package decode

import (
	"bytes"
	stdflate "compress/flate"
	stdgzip "compress/gzip"
	stdzlib "compress/zlib"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// compressed is text in a format, made by other code than what reads it, where there is some.
func compressed(t testing.TB, format, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case "gzip":
		w = stdgzip.NewWriter(&b)
	case "zlib":
		w = stdzlib.NewWriter(&b)
	case "deflate":
		w, err = stdflate.NewWriter(&b, 6)
	case "zstd":
		w, err = zstd.NewWriter(&b)
	}
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const document = `{"t":21.5,"h":40}`

func TestInflate(t *testing.T) {
	gz, zl, fl, zs := compressed(t, "gzip", document), compressed(t, "zlib", document), compressed(t, "deflate", document), compressed(t, "zstd", document)
	join := func(list ...[]byte) []byte { return bytes.Join(list, nil) }
	zeros := strings.Repeat("\x00", 32<<20)
	bomb := compressed(t, "gzip", zeros)
	inner := compressed(t, "gzip", string(bomb))
	for _, c := range []struct {
		name, format string
		payload      []byte
		want         string // "! " and the error
	}{
		{"gzip", "auto", gz, document},
		{"zlib", "auto", zl, document},
		{"zstd", "auto", zs, document},
		{"plain", "auto", []byte(document), document},
		{"empty", "auto", nil, ""},
		{"text like zlib", "auto", []byte("x^2 + y^2"), "x^2 + y^2"},
		{"gzip", "gzip", gz, document},
		{"zlib", "zlib", zl, document},
		{"zstd", "zstd", zs, document},
		{"zlib", "deflate", zl, document},
		{"without header", "deflate", fl, document},
		{"two members", "auto", join(gz, gz), document + document},
		{"members, one empty", "auto", join(compressed(t, "gzip", ""), gz), document},
		{"two frames", "auto", join(zs, zs), document + document},
		{"NUL after it", "auto", join(gz, make([]byte, 9)), document},
		{"NUL after it", "auto", join(zl, make([]byte, 9)), document},
		{"gzip in gzip", "auto", compressed(t, "gzip", string(gz)), document},
		{"zstd in zlib", "auto", compressed(t, "zlib", string(zs)), document},
		{"gzip three times", "auto", compressed(t, "gzip", string(compressed(t, "gzip", string(gz)))), string(gz)},

		{"rubbish after it", "auto", join(gz, []byte("x")), "! payload is not gzip: something follows it at byte 41"},
		{"half a second one", "auto", join(gz, gz[:12]), "! payload is not gzip: it ends too early, at byte 53"},
		{"damaged", "auto", join(gz[:20], []byte("x"), gz[21:]), "! payload is not gzip: "},
		{"damaged sum", "auto", join(gz[:len(gz)-8], make([]byte, 8)), "! payload is not gzip: gzip: invalid checksum"},
		{"not gzip", "gzip", []byte(document), "! payload is not gzip: it does not begin as gzip does"},
		{"not zlib", "zlib", gz, "! payload is not zlib: zlib: invalid header"},
		{"not zstd", "zstd", gz, "! payload is not zstd: "},
		{"not deflate", "deflate", []byte(document), "! payload is not deflate: "},
		{"empty", "gzip", nil, "! payload is not gzip: it does not begin as gzip does"},
		{"a bomb", "auto", bomb, fmt.Sprintf("! payload of %d bytes becomes more than %d when it is decompressed, which is refused", len(bomb), 200*len(bomb))},
		{"a bomb in a bomb", "auto", inner, fmt.Sprintf("! payload of %d bytes becomes more than 1048576 when", len(inner))},
		{"a bomb", "auto", compressed(t, "zlib", zeros), "! payload of "},
		{"a bomb", "auto", compressed(t, "zstd", zeros), "! payload of "},
		{"a bomb", "deflate", compressed(t, "deflate", zeros), "! payload of "},
		{"many members", "auto", bytes.Repeat(compressed(t, "gzip", ""), 1001), "! payload is not gzip: it has more than 1000 members"},
	} {
		x := NewInflater(c.format)
		for range 2 { // the readers are used again
			got, err := c.payload, error(nil)
			if x.Takes(c.payload) {
				got, err = x.Inflate(c.payload)
			}
			if err != nil {
				got = []byte("! " + err.Error())
			}
			if exact := !strings.HasPrefix(c.want, "! "); exact && string(got) != c.want || !strings.HasPrefix(string(got), c.want) {
				t.Errorf("%s, %s: %.200q\nwant %q", c.name, c.format, got, c.want)
			}
		}
	}
}

// TestInflateCutOff: a stream that is cut off anywhere is an error.
func TestInflateCutOff(t *testing.T) {
	for format, first := range map[string]int{"gzip": 5, "zlib": 5, "zstd": 5, "deflate": 1} {
		name := format
		if format != "deflate" {
			name = "auto"
		}
		p, x := compressed(t, format, document), NewInflater(name)
		for n := first; n < len(p); n++ {
			if got, err := x.Inflate(p[:n]); err == nil {
				t.Errorf("%s of %d of %d bytes: %q", format, n, len(p), got)
			}
		}
		if got, err := x.Inflate(p); string(got) != document || err != nil {
			t.Errorf("%s after errors: %q, %v", format, got, err)
		}
	}
}

// TestInflateMemory: a bomb takes no more than what it may become.
func TestInflateMemory(t *testing.T) {
	bombs := map[string][]byte{}
	for _, format := range []string{"gzip", "zlib", "zstd"} {
		bombs[format] = compressed(t, format, strings.Repeat("\x00", 32<<20))
	}
	for format, p := range bombs {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := NewInflater("auto").Inflate(p)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > 6*MaxInflated {
			t.Errorf("%s of %d bytes: %d bytes allocated, %v", format, len(p), took, err)
		}
	}
}

// FuzzInflate: whatever comes, it ends within the bounds.
func FuzzInflate(f *testing.F) {
	for _, format := range []string{"gzip", "zlib", "zstd", "deflate"} {
		p := compressed(f, format, document)
		f.Add(p)
		f.Add(p[:len(p)-3])
		f.Add(append(p, p...))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, format := range Compressions {
			out, err := NewInflater(format).Inflate(payload)
			if err == nil && len(out) > max(len(payload), MaxInflated) {
				t.Errorf("%s: %d bytes of %d", format, len(out), len(payload))
			}
			if err != nil && !strings.HasPrefix(err.Error(), "payload ") {
				t.Errorf("%s: %v", format, err)
			}
		}
	})
}
