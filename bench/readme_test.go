package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The README has a place for the table, and keeps what is around it.
func TestReadmeHasThePlaceOfTheTable(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := putTable(path, "| new |"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), tableBegins)
	_, after, _ := strings.Cut(string(text), tableEnds)
	if want := before + tableBegins + "\n| new |\n" + tableEnds + after; string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
