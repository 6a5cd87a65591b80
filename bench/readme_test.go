package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The documents have places for the tables, and keep what is around them.
func TestDocumentsHaveThePlacesOfTheTables(t *testing.T) {
	for _, c := range []struct {
		file string
		at   marks
	}{{"../README.md", speedMarks}, {"../README.md", rateMarks}, {"RESULTS.md", rateMarks}} {
		text, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "copy.md")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := putTable(path, c.at, "| new |"); err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		before, _, _ := strings.Cut(string(text), c.at.begin)
		_, after, _ := strings.Cut(string(text), c.at.end)
		if want := before + c.at.begin + "\n| new |\n" + c.at.end + after; string(got) != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.file, got, want)
		}
	}
}
