package decode

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

// Find and the Extractor agree on what is there, what is null and what does not fit.
func TestFindAgreesWithTheExtractor(t *testing.T) {
	docs := rapid.SampledFrom([]string{
		`{"a":{"b":1}}`, `{"a":null}`, `{"a":{"b":null}}`, `{"a":[1,{"b":2}]}`, `{"a":"x"}`, `[]`, `[[1]]`, `3`, `null`, `{}`,
	})
	paths := rapid.SampledFrom([]string{`.`, `.a`, `.a.b`, `.a?.b`, `.a.b?`, `.a[1].b`, `.[0]`, `.[0][0]`, `.a[0]?`, `.["a"]`})
	rapid.Check(t, func(r *rapid.T) {
		text, path := docs.Draw(r, "doc"), paths.Draw(r, "path")
		p, ok := ParsePath(path)
		if !ok {
			r.Fatalf("%s is no path", path)
		}
		var doc any
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			r.Fatal(err)
		}
		v, found, err := p.Find(doc)
		out := make([]Value, 1)
		if err := NewExtractor([]Path{p}).Extract([]byte(text), out); err != nil {
			r.Fatal(err)
		}
		k := out[0].Kind()
		if (err != nil) != (k == Misfit) || err == nil && found != (k != Missing) || found && (v == nil) != (k == Null) {
			r.Errorf("%s in %s: Find %v, %v, %v; Extractor %v", path, text, v, found, err, k)
		}
		if err != nil && err.Error() != out[0].Err().Error() {
			r.Logf("Find says %v, the Extractor %v", err, out[0].Err())
		}
	})
}
