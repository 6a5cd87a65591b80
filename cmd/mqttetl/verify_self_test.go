package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/sink/history"
)

// An upgrade takes the file of a running program away, or puts another into its place.
func TestVerifyOfADeletedProgram(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	fill(t, s, 3)
	for name, put := range map[string]string{"deleted": "", "replaced": "#!/bin/sh\necho the other program\nexit 3\n"} {
		t.Run(name, func(t *testing.T) {
			p := prepare(t, nil, "verify", "-c", s.config, "-o", "json")
			copied, file := copyOf(t, p.Path)
			if err := os.Remove(copied); err != nil {
				t.Fatal(err)
			}
			if put != "" {
				if err := os.WriteFile(copied, []byte(put), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			var out strings.Builder
			p.Path, p.ExtraFiles, p.Stdout = "/proc/self/fd/3", []*os.File{file}, &out
			p.launch(t)
			<-p.done
			var v history.Verdict
			if err := json.Unmarshal([]byte(out.String()), &v); err != nil || !v.Intact || v.Log.Records != 3 {
				t.Errorf("%v: %s", err, out.String())
			}
			if p.err.Len() > 0 {
				t.Errorf("it says %s", p.err.String())
			}
		})
	}
}

// copyOf copies a program, and opens the copy.
func copyOf(t *testing.T, path string) (copied string, open *os.File) {
	t.Helper()
	from, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	copied = filepath.Join(t.TempDir(), "mqttetl")
	to, err := os.OpenFile(copied, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if open, err = os.Open(copied); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { open.Close() })
	return copied, open
}
