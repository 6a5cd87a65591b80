package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImportPublishes: a file that is larger than the log comes in although a
// route publishes, because the import publishes as well; what it leaves, the
// service publishes, each object once.
func TestImportPublishes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.routed(t, "routes:\n  - {name: numbers, topic: 'a/{part}', decode: json, publish: 'out.{part}', columns: {n: INTEGER .n}}\n")
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, strings.Replace(string(text), "max_size: 64MiB", "max_size: 1MiB", 1))
	const lines = 4000
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, `{"topic":"a/b","payload":{"n":%d,"fill":%q}}`+"\n", i, strings.Repeat("x", 1000))
	}
	path := filepath.Join(w.dir, "day.ndjson")
	writeFile(t, path, b.String())
	if r := call(t, "import", "-c", w.config, path); r.code != 0 || !strings.Contains(r.err, "imported 4000 lines, rejected 0") {
		t.Fatalf("%+v", r)
	}
	w.publishes(t).terminate(t)
	objects := w.objects(t, "TELEMETRY_MAPPED")
	if len(objects) != lines {
		t.Fatalf("%d objects of %d", len(objects), lines)
	}
	for i, o := range objects {
		if want := fmt.Sprintf(`%d-numbers-0 out.b {"n":%d}`, i+1, i); o != want {
			t.Fatalf("object %d is %s, want %s", i, o, want)
		}
	}
}
