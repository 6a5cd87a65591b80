package jsonstring

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

// Strings are read as encoding/json reads them, and what it refuses is refused.
func FuzzString(f *testing.F) {
	for _, s := range []string{`"a\u00e9\ud83c\udf21\n"`, `"` + "eight by\xff" + `"`, `"\ud83c"`, `"\ud83c\u0041"`, `"\x"`, `"a`, `"\u12`, "\"\t\"", `"\\\"\/\b\f\r"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < 2 || p[0] != '"' {
			return
		}
		at, escaped, fault := Scan(p, 1)
		var want string
		err := json.Unmarshal(p, &want)
		if fault != OK {
			if err == nil && utf8.Valid(p) {
				t.Fatalf("%q: fault %d at %d, encoding/json reads %q", p, fault, at, want)
			}
			return
		}
		if at != len(p)-1 {
			return // more follows
		}
		text, whole := Unescape(nil, p[1:at])
		if err != nil || string(text) != want {
			t.Fatalf("%q: got %q, want %q, %v", p, text, want, err)
		}
		if !escaped && (string(p[1:at]) != want || !whole) {
			t.Fatalf("%q: escapes were not seen", p)
		}
	})
}
