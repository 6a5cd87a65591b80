package disk

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is removed, moved or replaced is told, and what is written is not.
func TestWatch(t *testing.T) {
	above := filepath.Join(t.TempDir(), "above")
	dir := filepath.Join(above, "dir")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir, 0o700))
	file := func(name string) string {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, []byte("text"), 0o600))
		return path
	}
	a, b, c := file("a"), file("b"), file("c")
	ctx, cancel := context.WithCancel(t.Context())
	moved, ended := make(chan bool, 100), make(chan error, 1)
	go func() { ended <- Watch(ctx, dir, func() { moved <- true }) }()
	told := func(what string) {
		t.Helper()
		select {
		case <-moved:
		case err := <-ended:
			t.Fatalf("%s: ended: %v", what, err)
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: not told", what)
		}
	}
	told("the beginning")
	file("a") // is only written
	must(os.Remove(a))
	told("a file was removed")
	must(os.Rename(b, b+".away"))
	told("a file was moved")
	file("d")
	for len(moved) > 0 { // the other half of a move may have been told alone
		<-moved
	}
	must(os.Rename(filepath.Join(dir, "d"), c))
	told("a file was replaced")
	must(os.Rename(above, above+".away"))
	told("the directory above was moved")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := Watch(t.Context(), dir, func() {}); err == nil {
		t.Error("a directory that is not there is watched")
	}
}
