package importer

import (
	"bufio"
	"bytes"
	"errors"
	"hash/maphash"
	"io"
	"os"
	"strconv"
)

// A file of rejected lines that several inputs share has one line for each, and
// each begins with the name of its input: what is another's is never taken away.

// parseShared returns the name and the number that a line of such a file begins
// with. A name with a tab in it is not known again.
func parseShared(line []byte) (name []byte, number int64, ok bool) {
	head, _, ok := bytes.Cut(line, []byte{'\t'})
	at := bytes.LastIndexByte(head, ':')
	if !ok || at < 0 {
		return nil, 0, false
	}
	n, err := strconv.ParseUint(string(head[at+1:]), 10, 63)
	return head[:at], int64(n), err == nil
}

// eachLine calls do with every line, its end included. Of one that is longer
// than any that is written here it is the pieces that are given.
func eachLine(r io.Reader, do func(line []byte)) error {
	b := bufio.NewReaderSize(r, 4*keepLine)
	for {
		line, err := b.ReadSlice('\n')
		if len(line) > 0 {
			do(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// HoldsOnly says whether every line of a file of rejected lines is of one of the
// inputs, by their Config.Name. A file that is not there holds none.
func HoldsOnly(path string, names map[string]bool) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	only := true
	err = eachLine(f, func(line []byte) {
		name, _, ok := parseShared(line)
		only = only && ok && names[string(name)]
	})
	return only, err
}

// seed is of the sums of lines, which are compared within one run.
var seed = maphash.MakeSeed()

// own returns the number of a line that an import of this input wrote behind
// what the log knows of.
func (r *rejects) own(line []byte) (int64, bool) {
	name, n, ok := parseShared(line)
	return n, ok && string(name)+":" == r.prefix && n > r.after
}

// openShared goes on behind r.size, where the log says that the lines of this
// input end. If nothing but such lines stands behind it, an import that was
// killed wrote them, and they are cut off. If others have written there since,
// nothing is: lines are added at the end, but for those of the killed import
// that stand there already.
func (r *rejects) openShared() error {
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	r.f, r.w = f, bufio.NewWriter(f)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	end := info.Size()
	from := min(r.size, end)
	last := []byte{'\n'}
	if from > 0 {
		if _, err := f.ReadAt(last, from-1); err != nil {
			return err
		}
	}
	whole := last[0] == '\n'
	only := whole && r.size <= end // beyond it, it was taken away and may be another
	err = eachLine(io.NewSectionReader(f, from, end-from), func(line []byte) {
		_, own := r.own(line)
		only, whole = only && own, line[len(line)-1] == '\n'
	})
	if err != nil {
		return err
	}
	if only {
		return f.Truncate(from)
	}
	r.size, r.from, r.stand = end, from, map[int64]uint64{}
	err = eachLine(io.NewSectionReader(f, from, end-from), func(line []byte) {
		if n, own := r.own(line); own {
			r.stand[n] = maphash.Bytes(seed, line)
		}
	})
	if err == nil && !whole {
		r.size++
		err = r.w.WriteByte('\n')
	}
	return err
}

// stands says whether the line is one that the killed import has written. They
// come in the order of their numbers.
func (r *rejects) stands(number int64, text []byte) bool {
	sum, ok := r.stand[number]
	delete(r.stand, number)
	return ok && sum == maphash.Bytes(seed, text)
}

// noted is the length for the log: behind it no line of this input stands that
// was read, and not one that is still to be read stands before it.
func (r *rejects) noted() int64 {
	if len(r.stand) > 0 {
		return r.from
	}
	return r.size
}
