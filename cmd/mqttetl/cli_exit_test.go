package main

import (
	"bytes"
	"context"
	"io/fs"
	"strings"
	"testing"
)

// What strangers put into names must not command the terminal.
func TestErrorsDoNotCommandTheTerminal(t *testing.T) {
	t.Parallel()
	const bell = "\x1b]0;owned\x07\x1b[2J\r\u009b31m"
	for _, args := range [][]string{
		{"run", "-c", bell},
		{"config", "check", bell},
		{bell},
		{"run", "--" + bell},
		{"pub", "-t", "a", "-m", "b", "-L", "mqtt://h\x1b/" + bell},
		{"sub", "-t", "a", "-h", bell},
		{"export", "--archive", bell},
		{"import", "-c", bell, bell},
	} {
		var stderr bytes.Buffer
		if code := exec(context.Background(), args, strings.NewReader(""), &bytes.Buffer{}, &stderr); code == 0 {
			t.Errorf("%q: exit code 0, want a failure", args)
		}
		if got := stderr.String(); strings.ContainsAny(got, "\x1b\x07\r\u009b") {
			t.Errorf("%q: control characters reach the terminal: %q", args, got)
		}
	}
	var w bytes.Buffer
	printError(&w, &fs.PathError{Op: "open", Path: bell, Err: fs.ErrNotExist})
	if got := w.String(); !strings.Contains(got, `\x1b]0;owned\x07`) {
		t.Errorf("got %q, want the escapes as text", got)
	}
}
