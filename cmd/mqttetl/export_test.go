package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// An export takes the place of a file, also behind a link, and of nothing else.
func TestExportReplacesOnlyFiles(t *testing.T) {
	t.Parallel()
	path, dir := archiveOf(t, minute()), t.TempDir()
	want, _ := mqttetlOut(t, 0, "export", "--archive", path)
	at := func(name string) string { return filepath.Join(dir, name) }
	for link, target := range map[string]string{"link": "file", "dangling": "new", "absolute": at("other")} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(at("file"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "dangling", "absolute", "plain"} {
		mqttetlOut(t, 0, "export", "--archive", path, "--out", at(name))
		if st, err := os.Lstat(at(name)); err != nil || name != "plain" && st.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
		if got, err := os.ReadFile(at(name)); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, want %d, %v", name, len(got), len(want), err)
		}
	}
	if err := unix.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 1)
	go func() {
		b, err := os.ReadFile(at("pipe"))
		if err != nil {
			t.Error(err)
		}
		read <- string(b)
	}()
	mqttetlOut(t, 0, "export", "--archive", path, "--out", at("pipe"))
	if got := <-read; got != want {
		t.Errorf("through a pipe: %d bytes, want %d", len(got), len(want))
	}
	if st, err := os.Stat(at("pipe")); err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the pipe is %v, %v", st, err)
	}
	mqttetlOut(t, exitIO, "export", "--archive", path, "--out", "/dev/full")
	if left, err := filepath.Glob(at("*.part-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// An interrupt ends an export into a pipe that nobody has opened, or reads.
func TestExportIntoAPipeIsInterrupted(t *testing.T) {
	archive, pipe := archiveOf(t, minute()), filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	begin := func() (interrupt func() int) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int, 1)
		go func() {
			ended <- exec(ctx, []string{"export", "--archive", archive, "--out", pipe}, nil, io.Discard, io.Discard)
		}()
		return func() int { cancel(); return <-ended }
	}
	if code := begin()(); code == 0 {
		t.Error("not opened: exit 0")
	}
	reader, err := unix.Open(pipe, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(reader)
	interrupt := begin()
	for in := 0; in < 32<<10; { // less than a pipe takes, and the export is longer
		if in, err = unix.IoctlGetInt(reader, unix.TIOCINQ); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	if code := interrupt(); code == 0 {
		t.Error("not read: exit 0")
	}
}

func TestNoPermissionToRead(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"export", "query", "query --sql select(1)", "tail", "dead-letters"} {
		dir := t.TempDir()
		conf := filepath.Join(dir, "c.yaml")
		text := "sources: [{name: a, url: \"mqtt://127.0.0.1:1\", subscribe: [\"#\"]}]\nlog: {dir: " + dir + "/log}\narchive: {path: " + dir + "/loop}\n"
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil { // cannot be opened, by root either
			t.Fatal(err)
		}
		_, said := mqttetlOut(t, exitIO, append(strings.Fields(args), "-c", conf)...)
		if !strings.Contains(said, "hint: read it as root") {
			t.Errorf("%s: %s", args, said)
		}
	}
}
