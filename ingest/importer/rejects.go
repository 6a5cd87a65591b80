package importer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// rejects is the file of the lines that could not be read, made when the first
// comes: number, reason and line, with tabs between.
type rejects struct {
	path string
	size int64
	new  bool // lines that may not be durable
	f    *os.File
	w    *bufio.Writer
}

// keepLine is how much of a rejected line is kept.
const keepLine = 64 << 10

// openRejects goes on behind size bytes; what is there beyond was written by an
// import that was killed before the log knew of it.
func openRejects(path string, size int64) (*rejects, error) {
	r := &rejects{path: path, size: size}
	if size == 0 {
		err := os.Remove(path)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return r, err
	}
	return r, r.open()
}

func (r *rejects) open() (err error) {
	if r.f, err = os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE, 0o640); err != nil {
		return err
	}
	if err = r.f.Truncate(r.size); err == nil {
		_, err = r.f.Seek(r.size, io.SeekStart)
	}
	r.w = bufio.NewWriter(r.f)
	return err
}

func (r *rejects) add(number int64, why error, line []byte) error {
	if r.f == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	n, err := fmt.Fprintf(r.w, "%d\t%s\t%s\n", number, bytes.ReplaceAll([]byte(why.Error()), []byte("\n"), []byte(" ")), line[:min(len(line), keepLine)])
	r.size += int64(n)
	r.new = true
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
