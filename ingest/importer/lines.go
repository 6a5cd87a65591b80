package importer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/mqttetl/mqttetl"
)

const (
	// maxLine is the longest line that is read: 256 MiB as base64, and what is
	// around it.
	maxLine = 360 << 20
	// peekSize is how much of the beginning is looked at.
	peekSize = 4096
)

// errLong is a line that was passed over without being kept.
var errLong = fmt.Errorf("longer than %d MiB", maxLine>>20)

// decompress puts the decompression in front of r that its first bytes ask for.
func decompress(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return b, nil
}

// lines reads a text line by line. offset and number say what has been read.
type lines struct {
	r      *bufio.Reader
	buf    []byte
	offset int64 // bytes of whole lines
	number int64
}

// newLines looks for the kind of text and returns the beginning, up to peekSize
// bytes, which is still to be read.
func newLines(r io.Reader) (l *lines, head []byte, err error) {
	text, err := decompress(r)
	if err != nil {
		return nil, nil, markCut(err)
	}
	l = &lines{r: bufio.NewReaderSize(text, 1<<20)}
	head, err = l.r.Peek(peekSize)
	if err != nil && !errors.Is(err, io.EOF) && len(head) == 0 {
		return nil, nil, markCut(err)
	}
	head = bytes.Clone(head)
	if bytes.HasPrefix(head, []byte("\xef\xbb\xbf")) {
		l.r.Discard(3)
		l.offset = 3
	}
	return l, head, checkBeginning(head)
}

// skip passes over what has been read before.
func (l *lines) skip(offset, number int64) error {
	n, err := io.CopyN(io.Discard, l.r, offset-l.offset)
	if err != nil {
		return fmt.Errorf("it ends after %d bytes, %d were read before: %w", l.offset+n, offset, markCut(err))
	}
	l.offset, l.number = offset, number
	return nil
}

// next returns the next line without its end, valid until the next call. At the
// end of the text it returns io.EOF; a last line without an end is one. An error
// that wraps errLong is about this line only. After any other error nothing
// more can be read, and the bytes behind the last whole line are not a line.
func (l *lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	whole := line
	if errors.Is(err, bufio.ErrBufferFull) {
		whole, err = l.long(line)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errLong) {
		return nil, markCut(err)
	}
	if errors.Is(err, io.EOF) && len(whole) == 0 {
		return nil, io.EOF
	}
	l.number++
	if errors.Is(err, errLong) {
		return nil, err
	}
	l.offset += int64(len(whole))
	whole = bytes.TrimSuffix(whole, []byte("\n"))
	return whole, nil
}

// long goes on with a line that is longer than the buffer.
func (l *lines) long(front []byte) ([]byte, error) {
	l.buf = append(l.buf[:0], front...)
	passed := int64(0)
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.buf)+len(part) > maxLine {
			passed += int64(len(l.buf))
			l.buf = l.buf[:0]
		}
		l.buf = append(l.buf, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case passed > 0 && (err == nil || errors.Is(err, io.EOF)):
			l.offset += passed + int64(len(l.buf))
			l.buf = nil
			return nil, errLong
		}
		return l.buf, err
	}
}

// markCut says of a compressed file that it is cut short or damaged.
func markCut(err error) error {
	var damaged bool
	for _, known := range []error{io.ErrUnexpectedEOF, gzip.ErrHeader, gzip.ErrChecksum, zstd.ErrMagicMismatch, zstd.ErrCRCMismatch, zstd.ErrUnexpectedBlockSize} {
		damaged = damaged || errors.Is(err, known)
	}
	if !damaged {
		return err
	}
	return fmt.Errorf("the compressed file is cut short or %w: %w", mqttetl.ErrDamaged, err)
}
