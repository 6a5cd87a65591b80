package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// compressedNames are the endings by which compressed files are known.
var compressedNames = map[string]string{".gz": "gzip", ".zst": "zstd"}

// byName takes format and compression from the name of the file where no flag
// says them, and refuses flags that the name contradicts.
func (f *exportFlags) byName(given func(flag string) bool) error {
	name, compress := strings.ToLower(f.out), ""
	for ending, how := range compressedNames {
		if rest, ok := strings.CutSuffix(name, ending); ok {
			name, compress = rest, how
		}
	}
	if format := strings.TrimPrefix(filepath.Ext(name), "."); slices.Contains(exportFormats, format) {
		if given("format") && f.format != format {
			return fmt.Errorf("--format %s: --out %s has the name of a file of %s", f.format, f.out, format)
		}
		f.format = format
	}
	if compress == "" {
		return nil
	}
	if given("compress") && f.compress != compress {
		return fmt.Errorf("--compress %s: --out %s has the name of a file of %s", f.compress, f.out, compress)
	}
	f.compress = compress
	return nil
}

// checkTerminal refuses to write to a terminal what nobody can read there.
func (f *exportFlags) checkTerminal(stdout io.Writer) error {
	if f.out != "-" || !isTerminal(stdout) || f.format != "parquet" && f.compress == "none" {
		return nil
	}
	what := f.format
	if f.compress != "none" {
		what = f.compress
	}
	return mqttetl.WithHint(fmt.Errorf("a terminal cannot show %s", what), "--out names a file, or send standard output to one")
}

// asTyped is err with the path that the user has given in the place of one that
// begins with other.
func asTyped(err error, other, typed string) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok && strings.HasPrefix(filepath.Clean(e.Path), filepath.Clean(other)) {
		return &fs.PathError{Op: e.Op, Path: typed, Err: e.Err}
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok { // no other is renamed
		return &fs.PathError{Op: e.Op, Path: typed, Err: e.Err}
	}
	return err
}
