package wal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Who may write the directory of a log could have a privileged service destroy
// any file by a link of the lock's name.
func TestLockLeavesTheFilesOfOthers(t *testing.T) {
	for name, plant := range map[string]func(path, victim string) error{
		"symbolic link":    func(path, victim string) error { return os.Symlink(victim, path) },
		"link to no file":  func(path, victim string) error { return os.Symlink(victim+".new", path) },
		"hard link":        func(path, victim string) error { return os.Link(victim, path) },
		"fifo":             func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"file of a person": func(path, _ string) error { return os.WriteFile(path, []byte("keep me"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
			if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, lockFile)
			if err := plant(path, victim); err != nil {
				t.Fatal(err)
			}
			l, err := Open(dir, Options{MaxSize: 1 << 20})
			if err == nil {
				l.Close()
			}
			if err == nil || !strings.Contains(err.Error(), path+" is no lock of a log") {
				t.Errorf("Open: got %v, want a refusal that names %s", err, path)
			}
			if got, err := os.ReadFile(victim); string(got) != "precious" {
				t.Errorf("the other file holds %q (%v), want it as it was", got, err)
			}
			if _, err := os.Lstat(victim + ".new"); err == nil {
				t.Errorf("Open made a file outside the directory of the log")
			}
		})
	}
}
