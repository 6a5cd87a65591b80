package decode

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestManyNames: paths beyond what is compared one by one are found as well.
func TestManyNames(t *testing.T) {
	var texts []string
	doc := map[string]any{}
	for i := range 3 * manyMembers {
		name := "n" + strings.Repeat("x", i)
		texts = append(texts, "."+name)
		doc[name] = i
	}
	payload, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]Value, len(texts))
	if err := NewExtractor(mustPaths(t, texts...)).Extract(payload, out); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		if n, err := out[i].Int64(); n != int64(i) || err != nil {
			t.Errorf("%s: %d, %v", texts[i], n, err)
		}
	}
}

// TestExtractDoesNotAllocate, also where names are escaped.
func TestExtractDoesNotAllocate(t *testing.T) {
	paths := mustPaths(t, `.temperature`, `.humidity`, `.battery?`, `.name`)
	x, out := NewExtractor(paths), make([]Value, len(paths))
	payload := []byte(`{"battery":97,"humid\u0069ty":45.2,"linkquality":120,"name":"k\u00fcche","temperature":21.5,"update":{"state":"idle","v":[1,2]}}`)
	if err := x.Extract(payload, out); err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(100, func() {
		if err := x.Extract(payload, out); err != nil {
			t.Error(err)
		}
		for i := range 3 {
			if _, err := out[i].Float64(); err != nil {
				t.Error(err)
			}
		}
	})
	if n != 0 || out[3].String() != "küche" {
		t.Errorf("%v allocations, %q", n, out[3].String())
	}
}
