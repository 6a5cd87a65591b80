package access

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lookAgain is how often a file is looked at, at most, while somebody asks for it.
const lookAgain = time.Second

// mostLine bounds a line of a file, in bytes.
const mostLine = 256 << 10

// A File is what a file says. It is read again when it has changed: whoever asks for
// it looks at the file, once in a while, so that nothing wakes up for it while nobody asks.
type File[T any] struct {
	paths   []string // one file, or several that are read together
	read    func() (*T, error)
	changed func(error) // told of each change: nil, or why the file is refused

	value atomic.Pointer[T]
	after atomic.Int64 // Unix nanoseconds from when on the file is looked at again
	every time.Duration

	mu   sync.Mutex
	seen []stamp // of what is in force, or was refused
	last []stamp // when it was looked at last; nil: it could not be
	gone int     // how often it could not
}

// stamp is by what a changed file is known.
type stamp struct {
	when  time.Time
	size  int64
	inode any
}

func open[T any](read func() (*T, error), changed func(error), paths ...string) (*File[T], error) {
	f := &File[T]{paths: paths, read: read, changed: changed, every: lookAgain}
	var err error
	if f.seen, err = stampsOf(paths); err != nil {
		return nil, err
	}
	v, err := f.read()
	if err != nil {
		return nil, err
	}
	f.value.Store(v)
	f.after.Store(time.Now().Add(f.every).UnixNano())
	return f, nil
}

// Get is what the file says. now is the time in Unix nanoseconds.
func (f *File[T]) Get(now int64) *T {
	if now >= f.after.Load() {
		f.look(now)
	}
	return f.value.Load()
}

// Is says whether v is what Get has returned last, to anyone.
func (f *File[T]) Is(v *T) bool { return f.value.Load() == v }

func (f *File[T]) look(now int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now < f.after.Load() {
		return
	}
	f.after.Store(now + int64(f.every))
	s, err := stampsOf(f.paths)
	if err != nil {
		if f.last, f.gone = nil, f.gone+1; f.gone == 2 { // one that is being replaced may be absent for a moment
			f.changed(err)
		}
		return
	}
	settled := slices.Equal(s, f.last) || f.quiet(s, now)
	f.last, f.gone = s, 0
	if slices.Equal(s, f.seen) || !settled {
		return
	}
	v, err := f.read()
	if after, gone := stampsOf(f.paths); gone != nil || !slices.Equal(after, s) {
		f.last = nil
		return // it was written while it was read
	}
	f.seen = s
	if err == nil {
		f.value.Store(v)
	}
	f.changed(err)
}

// quiet says that nobody has written for so long that nobody is in the middle of it.
func (f *File[T]) quiet(list []stamp, now int64) bool {
	return !slices.ContainsFunc(list, func(s stamp) bool { return now-s.when.UnixNano() < int64(f.every) })
}

// openLines reads a file of lines.
func openLines[T any](path string, parse func(string, *bufio.Scanner) (*T, error), changed func(error)) (*File[T], error) {
	return open(func() (*T, error) { return readLines(path, parse) }, changed, path)
}

func readLines[T any](path string, parse func(string, *bufio.Scanner) (*T, error)) (*T, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(b, []byte("\ufeff")))) // some editors write it
	lines.Buffer(nil, mostLine)
	v, err := parse(path, lines)
	if err == nil && lines.Err() != nil {
		err = fmt.Errorf("%s: a line is longer than %d bytes", path, mostLine)
	}
	return v, err
}

func stampsOf(paths []string) (list []stamp, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		list = append(list, stamp{info.ModTime(), info.Size(), inode(info)})
	}
	return list, nil
}
