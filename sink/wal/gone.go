package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// ErrGone: the log's files are no longer at their place. What is written into
// them may be lost, so nothing is acknowledged any more. What was acknowledged
// before can still be read from the open log.
var ErrGone = errors.New("the log's files are not at their place any more")

// How often the files are looked for at their paths: at most so often under
// load, when every commit would, and at least so often when idle, where Look is
// not called.
const (
	lookAgain = 100 * time.Millisecond
	lookIdle  = 10 * time.Second
)

// place is where the files of an open log were when it was opened. Only the
// goroutine that commits uses it.
type place struct {
	dir    string
	data   int // descriptor of the data file
	size   int64
	files  map[string]unix.Stat_t // by name
	looked time.Time
}

// newPlace notes which files there are. A file system that gives a file another
// number at each look makes them indistinguishable by number; then only their
// absence is noticed.
func newPlace(dir string, data int) (*place, error) {
	p := &place{dir: dir, data: data, files: map[string]unix.Stat_t{}}
	var open, st unix.Stat_t
	if err := unix.Fstat(data, &open); err != nil {
		return nil, fmt.Errorf("open log %s: %w", dir, err)
	}
	for _, name := range []string{dataFile, readersFile, lockFile} {
		path := filepath.Join(dir, name)
		if err := unix.Stat(path, &st); err != nil {
			return nil, &fs.PathError{Op: "open log", Path: path, Err: err}
		}
		p.files[name] = st
	}
	if st := p.files[dataFile]; !sameFile(&st, &open) {
		for name := range p.files {
			p.files[name] = unix.Stat_t{}
		}
	}
	return p, nil
}

func sameFile(a, b *unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }

// check says whether the data file still has its name, and its length. It is
// called after each commit, and costs one system call.
func (p *place) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(p.data, &st); err != nil {
		return fmt.Errorf("log %s: %w", p.dir, err)
	}
	if st.Nlink == 0 {
		return p.gone(dataFile, "was deleted")
	}
	if st.Size < p.size {
		return p.gone(dataFile, "was truncated")
	}
	p.size = st.Size
	return nil
}

// Look has the files of the log looked for at once, because something was moved or
// removed where they are.
func (l *Log) Look() {
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// look looks for all files at their paths, if that was not done just now.
func (p *place) look() error {
	if time.Since(p.looked) < lookAgain {
		return nil
	}
	p.looked = time.Now()
	if err := p.check(); err != nil {
		return err
	}
	var st unix.Stat_t
	for _, name := range []string{dataFile, lockFile, readersFile} {
		was := p.files[name]
		switch err := unix.Stat(filepath.Join(p.dir, name), &st); {
		case err == unix.ENOENT, err == unix.ENOTDIR, err == unix.ESTALE, err == unix.ELOOP:
			return p.gone(name, "is missing")
		case err != nil: // it may be there, in a directory that cannot be read now
		case was.Ino != 0 && !sameFile(&st, &was):
			return p.gone(name, "was replaced by another file")
		}
	}
	return nil
}

// gone is the error for a file, with what can be done about it.
func (p *place) gone(name, what string) error {
	err := error(&fs.PathError{Op: "look after log", Path: filepath.Join(p.dir, name), Err: fmt.Errorf("%s: %w", what, ErrGone)})
	now, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", p.data))
	moved := filepath.IsAbs(now) && !strings.HasSuffix(now, " (deleted)") && filepath.Clean(now) != p.absolute(dataFile)
	switch {
	case what == "was truncated":
		return mqttetl.WithHint(err, "restore the log from a copy, or move log.dir and archive.path aside and start again")
	case moved && name == dataFile:
		return mqttetl.WithHint(err, fmt.Sprintf("it is now %s, and holds all that was acknowledged: move it back to %s and start again", now, p.absolute(name)))
	case name == dataFile:
		return mqttetl.WithHint(err, "what archive and stream have is not affected; restore the log from a copy, or move log.dir and archive.path aside and start again")
	case moved:
		return mqttetl.WithHint(err, fmt.Sprintf("the log is now %s: move all of its directory back and start again", now))
	}
	return mqttetl.WithHint(err, "it keeps other processes from disturbing the log; start again, which makes it anew")
}

func (p *place) absolute(name string) string {
	path, err := filepath.Abs(filepath.Join(p.dir, name))
	if err != nil {
		return filepath.Join(p.dir, name)
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(real, name)
	}
	return path
}
