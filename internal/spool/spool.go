// Package spool passes on output for which a reader may not wait: what it has not
// taken yet is kept, so that whoever writes can end.
package spool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/disk"
)

const (
	mostMemory = 1 << 20
	chunkSize  = 64 << 10
)

// Spool passes on what is written to it, and keeps what the reader of out has not
// taken yet: 1 MiB in memory, the rest in a temporary file without a name. So a
// query does not hold its snapshot of the archive, which keeps the write-ahead
// log from being emptied, for as long as nobody reads its output.
type Spool struct {
	out     io.Writer
	changed *sync.Cond
	memory  []byte // older than what is in the file
	file    *os.File
	read    int64 // of the file
	written int64
	most    int64 // bytes in the file: half of what was free
	closed  bool
	err     error // of out
	done    chan struct{}
}

// New begins to pass on to out.
func New(out io.Writer) *Spool {
	s := &Spool{out: out, changed: sync.NewCond(&sync.Mutex{}), done: make(chan struct{})}
	go s.passOn()
	return s
}

// Write never waits for the reader. It returns the error that ended the output.
func (s *Spool) Write(p []byte) (int, error) {
	s.changed.L.Lock()
	defer s.changed.L.Unlock()
	defer s.changed.Signal()
	if s.err != nil {
		return 0, s.err
	}
	if s.written == s.read && len(s.memory)+len(p) <= mostMemory {
		s.memory = append(s.memory, p...)
		return len(p), nil
	}
	if err := s.store(p); err != nil {
		return 0, mqttetl.WithHint(fmt.Errorf("keep output that is not read yet in %s: %w", os.TempDir(), err),
			"read the output at once (not into a pager), select less, or set TMPDIR to a directory on a larger disk")
	}
	return len(p), nil
}

func (s *Spool) store(p []byte) error {
	if s.file == nil {
		f, err := os.CreateTemp("", ".mqttetl-query-*")
		if err != nil {
			return err
		}
		var fs unix.Statfs_t
		if err := errors.Join(os.Remove(f.Name()), unix.Fstatfs(int(f.Fd()), &fs)); err != nil {
			return errors.Join(err, f.Close())
		}
		s.file, s.most = f, disk.Free(&fs)/2
	}
	if s.written+int64(len(p)) > s.most {
		return fmt.Errorf("more than %s, half of what was free", mqttetl.FormatSize(s.most))
	}
	n, err := s.file.WriteAt(p, s.written)
	s.written += int64(n)
	return err
}

// passOn writes to out until all is written or out fails.
func (s *Spool) passOn() {
	defer close(s.done)
	var chunk []byte
	for {
		next, err := s.next(chunk[:0])
		if err == nil && len(next) == 0 {
			return
		}
		if err == nil {
			_, err = s.out.Write(next)
		}
		if err != nil {
			s.changed.L.Lock()
			s.err = err
			s.changed.L.Unlock()
			return
		}
		chunk = next
	}
}

// next waits for what is to be written, and returns nothing at the end.
func (s *Spool) next(into []byte) ([]byte, error) {
	s.changed.L.Lock()
	defer s.changed.L.Unlock()
	for len(s.memory) == 0 && s.read == s.written && !s.closed {
		s.changed.Wait()
	}
	if len(s.memory) > 0 || s.read == s.written {
		into, s.memory = s.memory, into
		return into, nil
	}
	if cap(into) < chunkSize {
		into = make([]byte, chunkSize)
	}
	into = into[:min(chunkSize, s.written-s.read)]
	if _, err := s.file.ReadAt(into, s.read); err != nil {
		return nil, err
	}
	if s.read += int64(len(into)); s.read < s.written {
		return into, nil
	}
	s.read, s.written = 0, 0
	return into, s.file.Truncate(0)
}

// Close waits until the reader has taken all.
func (s *Spool) Close() error {
	s.changed.L.Lock()
	s.closed = true
	s.changed.L.Unlock()
	s.changed.Signal()
	<-s.done
	if s.file != nil {
		s.err = errors.Join(s.err, s.file.Close())
	}
	return s.err
}

// End passes on the rest of the output, which w buffers, of what has ended with err.
func End(err error, w *bufio.Writer, s *Spool) error {
	werr := w.Flush()
	if cerr := s.Close(); cerr != nil { // it is what the others are about
		return cerr
	}
	if err != nil {
		return err
	}
	return werr
}
