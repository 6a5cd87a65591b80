package importer

import (
	"encoding/json"
	"testing"
)

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"tst":"2026-01-02T03:04:05.678901+0100","topic":"a/b","qos":1,"payload":{"a":[1,"x\u00e9"]},"properties":{"content-type":"x"}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := (&reader{}).parseJSON(line)
		if err != nil || !json.Valid(line) {
			return
		}
		if err := (&reader{}).check(&e, true); err != nil {
			t.Fatal(err)
		}
	})
}

// Strings are read as encoding/json reads them.
func FuzzText(f *testing.F) {
	f.Add([]byte(`"a\u00e9\ud83c\udf21\n"`))
	f.Fuzz(func(t *testing.T, p []byte) {
		s := scanner{p: p}
		got, err := s.text()
		if err != nil || s.end() != nil || checkText(p) != nil {
			return
		}
		var want string
		if err := json.Unmarshal(p, &want); err != nil || want != string(got) {
			t.Fatalf("%q: %q, encoding/json has %q, %v", p, got, want, err)
		}
	})
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte("a,\"b\"\"c\",\"d\ne\""))
	f.Add([]byte("a,\"b\nc,\"d\ne\"\nf,g"))
	f.Fuzz(func(t *testing.T, p []byte) {
		splitCSV(nil, p, ',')
		text := append([]byte("topic,payload\n"), p...)
		_, s, err := dry(Config{}, text)
		if err == nil && s.Bytes != int64(len(text)) {
			t.Errorf("%d bytes of %d read", s.Bytes, len(text))
		}
	})
}
