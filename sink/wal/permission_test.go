package wal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// A user who may read the files of a log, and not write the table of readers,
// reads it while it is closed. While a process has it open, he is told what he
// may not do.
func TestReadByAnotherUser(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, dir, Options{})
	r.put("s", "a", "b")
	must(r.close())
	must(os.Chmod(filepath.Dir(dir), 0o755))
	for name, mode := range map[string]fs.FileMode{"": 0o755, dataFile: 0o644, lockFile: 0o644, readersFile: 0o444} {
		must(os.Chmod(filepath.Join(dir, name), mode))
	}
	if info, err := inspectAsOther(t, dir); err != nil || info.Last != 2 {
		t.Errorf("closed: %+v, %v", info, err)
	}
	must(os.WriteFile(filepath.Join(dir, lockFile), []byte("1"), 0o644)) // not this process
	other, err := os.Open(filepath.Join(dir, lockFile))
	must(err)
	defer other.Close()
	must(unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	_, err = inspectAsOther(t, dir)
	if !errors.Is(err, fs.ErrPermission) || errors.Is(err, mqttetl.ErrLocked) || !strings.Contains(err.Error(), readersFile) || !strings.Contains(mqttetl.Hint(err), "as the user of the service") {
		t.Errorf("open: %v, hint %q", err, mqttetl.Hint(err))
	}
}

// inspectAsOther is Inspect by a user whom the modes of files bind.
func inspectAsOther(t *testing.T, dir string) (info Info, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if os.Geteuid() == 0 {
			const nobody = 65534
			if err = unix.Setfsuid(nobody); err != nil {
				return
			}
		}
		info, err = Inspect(dir)
	}()
	<-done
	return info, err
}
