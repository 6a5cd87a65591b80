package importer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
)

// rejects is the file of the lines that could not be read, made when the first
// comes: number, reason and line, with tabs between.
type rejects struct {
	path   string
	prefix string // of the number, in a file that is shared
	size   int64
	new    bool // lines that may not be durable
	f      *os.File
	w      *bufio.Writer
	text   []byte

	// Lines of this input, behind the number after, that stand among those of
	// others already, and where the first may begin.
	after int64
	stand map[int64]uint64
	from  int64
}

// keepLine is how much of a rejected line is kept.
const keepLine = 64 << 10

// CheckRejected finds out whether a file for rejected lines could be written.
func CheckRejected(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		err = &os.PathError{Op: "write", Path: path, Err: errors.New("not a regular file")}
	case err == nil:
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			err = f.Close()
		}
	case errors.Is(err, os.ErrNotExist):
		var f *os.File
		if f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640); err == nil {
			err = errors.Join(f.Close(), os.Remove(path))
		}
	}
	if err != nil {
		return fmt.Errorf("file for rejected lines: %w", err)
	}
	return nil
}

// openRejects goes on where the log says that the file ends: what is there
// beyond was written by an import that was killed before the log knew of it. A
// file that others write too ends, for an import that the log does not know to
// have written there, where it does now; the log is told before the first line.
func (m *Importer) openRejects(ctx context.Context) error {
	m.bad = &rejects{path: m.cfg.Rejected, size: m.at.RejectedBytes}
	same := m.known && m.at.RejectedFile == m.cfg.shared()
	m.at.RejectedFile, m.at.Done = m.cfg.shared(), false
	if !m.cfg.Shared && (!same || m.bad.size == 0) {
		m.bad.size = 0
		return m.bad.remove()
	}
	if !m.cfg.Shared {
		return m.bad.open()
	}
	m.bad.prefix, m.bad.after = m.cfg.Name+":", m.at.Lines
	if same {
		return m.bad.openShared()
	}
	info, err := os.Stat(m.cfg.Rejected)
	if err == nil {
		m.bad.size = info.Size()
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(m.hand(ctx), m.drain(ctx))
}

// remove takes away what an earlier import has left.
func (r *rejects) remove() error {
	err := os.Remove(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil { // the directory may not be ours
		err = os.Truncate(r.path, 0)
	}
	return err
}

// open goes on behind r.size.
func (r *rejects) open() (err error) {
	if r.prefix != "" {
		return r.openShared()
	}
	if r.f, err = os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640); err != nil {
		return err
	}
	info, err := r.f.Stat()
	if err == nil {
		r.size = min(r.size, info.Size()) // it may have been taken away
		err = r.f.Truncate(r.size)
	}
	r.w = bufio.NewWriter(r.f)
	return err
}

// add writes a line down. In a file that is shared it stays one line whatever it
// holds, and goes to the file as a whole: a kill leaves no part for others to
// go on behind.
func (r *rejects) add(number int64, why error, line []byte) error {
	if r.f == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	line = line[:min(len(line), keepLine)]
	if r.prefix != "" {
		line = bytes.ReplaceAll(line, []byte("\n"), []byte(`\n`))
	}
	r.text = fmt.Appendf(r.text[:0], "%s%d\t%s\t%s\n", r.prefix, number, bytes.ReplaceAll([]byte(why.Error()), []byte("\n"), []byte(" ")), line)
	r.new = true
	if r.stands(number, r.text) {
		return nil
	}
	if len(r.text) > r.w.Available() {
		if err := r.w.Flush(); err != nil {
			return err
		}
	}
	n, err := r.w.Write(r.text)
	r.size += int64(n)
	return err
}

// flush makes the lines durable, for the position that counts them.
func (r *rejects) flush() error {
	if !r.new {
		return nil
	}
	r.new = false
	return errors.Join(r.w.Flush(), r.f.Sync())
}

func (r *rejects) close() {
	if r.f != nil {
		r.w.Flush() // what the log knows of was flushed before
		r.f.Close()
	}
}
