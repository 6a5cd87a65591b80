package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// A file is what its name says, unless flags contradict the name.
func TestExportByName(t *testing.T) {
	t.Parallel()
	path, dir := archiveOf(t, minute()[:3]), t.TempDir()
	as := map[string]string{}
	for _, format := range []string{"ndjson", "csv", "parquet"} {
		as[format], _ = mqttetlOut(t, exitOK, "export", "--archive", path, "--format", format)
	}
	unpack := map[string]func(b []byte) (io.Reader, error){
		"":     func(b []byte) (io.Reader, error) { return bytes.NewReader(b), nil },
		"gzip": func(b []byte) (io.Reader, error) { return gzip.NewReader(bytes.NewReader(b)) },
		"zstd": func(b []byte) (io.Reader, error) {
			return zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1))
		},
	}
	for _, c := range []struct{ flags, name, format, compress string }{
		{"", "a", "ndjson", ""},
		{"", "a.csv", "csv", ""},
		{"", "a.parquet", "parquet", ""},
		{"--format parquet", "b", "parquet", ""},
		{"", "A.NDJSON", "ndjson", ""},
		{"", "a.zst", "ndjson", "zstd"},
		{"", "a.csv.gz", "csv", "gzip"},
		{"--format csv", "b.zst", "csv", "zstd"},
		{"--compress gzip", "b.ndjson", "ndjson", "gzip"},
		{"--compress zstd --format ndjson", "b.ndjson.zst", "ndjson", "zstd"},
	} {
		out := filepath.Join(dir, c.name)
		mqttetlOut(t, exitOK, append([]string{"export", "--archive", path, "--out", out}, strings.Fields(c.flags)...)...)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		r, err := unpack[c.compress](b)
		if err == nil {
			b, err = io.ReadAll(r)
		}
		if err != nil || string(b) != as[c.format] {
			t.Errorf("%s %s: %.60q, %v, want %s", c.flags, c.name, b, err, c.format)
		}
	}
	for _, c := range []struct{ flags, name, want string }{
		{"--compress none", "c.gz", "--compress none: --out"},
		{"--compress gzip", "c.csv.zst", "has the name of a file of zstd"},
		{"--format parquet", "c.ndjson", "--format parquet: --out"},
		{"--format ndjson", "c.csv.gz", "has the name of a file of csv"},
		{"", "c.parquet.gz", "compressed within"},
	} {
		out := filepath.Join(dir, c.name)
		_, said := mqttetlOut(t, exitUsage, append([]string{"export", "--archive", path, "--out", out}, strings.Fields(c.flags)...)...)
		if _, err := os.Stat(out); err == nil || !strings.Contains(said, c.want) {
			t.Errorf("%s %s: %q, want %q", c.flags, c.name, said, c.want)
		}
	}
}

// A terminal gets nothing that it cannot show.
func TestExportToATerminal(t *testing.T) {
	t.Parallel()
	path, x := archiveOf(t, minute()[:3]), newTerminal(t)
	for flags, want := range map[string]int{"--format parquet": exitUsage, "--compress zstd": exitUsage, "--format csv": exitOK} {
		var said strings.Builder
		code := exec(t.Context(), append([]string{"export", "--archive", path}, strings.Fields(flags)...), nil, x.tty, &said)
		if code != want || code == exitUsage && !strings.Contains(said.String(), "hint: --out names a file") {
			t.Errorf("%s: exit %d, %s", flags, code, said.String())
		}
	}
	if all := x.await("(?s)seq,time,.*\n3,[^\n]*\n"); strings.Count(all, "\n") != 4 {
		t.Errorf("%q", all)
	}
}

// The file that is named is the one that was typed.
func TestExportNamesTheFileTyped(t *testing.T) {
	path := archiveOf(t, minute()[:3])
	out := filepath.Join(t.TempDir(), "none", "x.csv")
	if _, said := mqttetlOut(t, exitIO, "export", "--archive", path, "--out", out); said != "mqttetl: open "+out+": no such file or directory\n" {
		t.Error(said)
	}
	t.Chdir(t.TempDir())
	if _, said := mqttetlOut(t, exitIO, "export", "--archive", path, "--out", "./none/x"); said != "mqttetl: open ./none/x: no such file or directory\n" {
		t.Error(said)
	}
}
