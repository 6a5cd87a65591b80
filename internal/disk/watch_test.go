package disk

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// A link on the way to dir that is replaced, and a move of what holds it or of where it
// leads, is told.
func TestWatchOfALink(t *testing.T) {
	for what, move := range map[string][2]string{
		"the link was replaced":            {"above/new", "above/link"},
		"what holds the link was moved":    {"above", "away"},
		"where the link leads to is moved": {"real", "away"},
	} {
		base := t.TempDir()
		at := func(name string) string { return filepath.Join(base, name) }
		if err := errors.Join(os.MkdirAll(at("real/dir"), 0o700), os.Mkdir(at("above"), 0o700),
			os.Symlink("../real", at("above/link")), os.Symlink("../else", at("above/new"))); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		told := 0
		err := Watch(ctx, at("above/link/dir"), func() {
			if told++; told > 1 { // the first is the beginning
				cancel()
			} else if err := os.Rename(at(move[0]), at(move[1])); err != nil {
				t.Error(err)
			}
		})
		cancel()
		if err != nil || told < 2 {
			t.Errorf("%s: not told, %v", what, err)
		}
	}
}

// Where there are too few watches for the directories above, it does not seem to watch them.
func TestTooFewWatches(t *testing.T) {
	const few = "MQTTETL_TEST_FEW_WATCHES"
	if os.Getenv(few) == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestTooFewWatches$")
		c.Env = append(os.Environ(), few+"=1")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v (without root it needs user namespaces: sysctl kernel.unprivileged_userns_clone=1)\n%s", err, out)
		}
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_inotify_watches", []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := Watch(ctx, dir, cancel); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v, want %v", err, unix.ENOSPC)
	}
}
