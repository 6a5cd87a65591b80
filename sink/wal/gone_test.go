package wal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// On a file system whose numbers of files say nothing, only their absence is noticed.
func TestFilesWithoutNumbers(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	for _, name := range []string{dataFile, readersFile, lockFile} {
		write(name)
	}
	p, err := newPlace(dir, int(write("the same by another number").Fd()))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dataFile, readersFile, lockFile} {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "away")); err != nil {
			t.Fatal(err)
		}
		write(name)
	}
	if err := p.look(); err != nil {
		t.Errorf("look: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, lockFile)); err != nil {
		t.Fatal(err)
	}
	p.looked = p.looked.Add(-lookAgain)
	if err := p.look(); !errors.Is(err, ErrGone) {
		t.Errorf("look after a file was removed: %v", err)
	}
}
