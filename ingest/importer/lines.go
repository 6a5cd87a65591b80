package importer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/mqttetl/mqttetl"
)

const (
	// maxLine is the longest line that is read: 256 MiB as base64, and what is
	// around it.
	maxLine = 360 << 20
	// minGather is the least memory for a line that is put together.
	minGather = 4096
	// peekSize is how much of the beginning is looked at.
	peekSize = 4096
)

// Why a decompressor cannot go on. Both wrap mqttetl.ErrDamaged.
var (
	// ErrCut: the file ends too early. What it held before that is right.
	ErrCut = fmt.Errorf("the compressed file is cut short or %w", mqttetl.ErrDamaged)
	// ErrBroken: the file holds something else than was written. The formats
	// notice some of it only in a check sum at their end: lines before may be wrong.
	ErrBroken = fmt.Errorf("the compressed file is %w", mqttetl.ErrDamaged)
)

// errLong is a line that was passed over without being kept.
var errLong = fmt.Errorf("longer than %d MiB", maxLine>>20)

// decompress puts the decompression in front of r that its first bytes ask for.
func decompress(r io.Reader) (io.Reader, error) {
	src := &source{r: r}
	b := bufio.NewReaderSize(src, 256<<10)
	head, err := b.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		return &packed{z, src}, src.damaged(err)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, src.damaged(err)
		}
		return &packed{d.IOReadCloser(), src}, nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return nil, unknownPacking("xz")
	case bytes.HasPrefix(head, []byte("BZh")) && bytes.HasPrefix(head[min(4, len(head)):], []byte("1AY&SY")):
		return nil, unknownPacking("bzip2")
	}
	return b, nil
}

func unknownPacking(program string) error {
	return mqttetl.WithHint(fmt.Errorf("it is compressed by %s, of which only gzip and zstd are read here", program),
		fmt.Sprintf("%s -dc FILE | mqttetl import -", program))
}

// source remembers how reading failed, to tell that from what a decompressor
// does not like.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// damaged says of an error of the decompressor that the file is cut short or
// damaged, where it is not of reading the file.
func (s *source) damaged(err error) error {
	switch {
	case err == nil, s.err != nil, errors.Is(err, io.EOF):
		return err
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return mqttetl.WithHint(fmt.Errorf("it is compressed with a window of more than 256 MiB: %w", err), "zstd -dc --long=31 FILE | mqttetl import -")
	case errors.Is(err, zstd.ErrUnknownDictionary):
		return mqttetl.WithHint(fmt.Errorf("it is compressed with a dictionary: %w", err), "zstd -dc -D DICTIONARY FILE | mqttetl import -")
	}
	kind := ErrBroken
	if errors.Is(err, io.ErrUnexpectedEOF) {
		kind = ErrCut
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// packed is what a compressed file holds.
type packed struct {
	io.Reader
	src *source
}

func (p *packed) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	return n, p.src.damaged(err)
}

// lines reads a text line by line. offset and number say what has been read.
type lines struct {
	r      *bufio.Reader
	buf    []byte // of a line that r's buffer does not hold, kept for the next
	offset int64  // bytes of whole lines
	number int64
	sum    uint32 // CRC-32C of them
	open   openEnd

	again   []byte    // lines that are kept: what was read of them may be read again
	at      int       // of that, what has been read
	keeping bool      // whatever is read is kept
	begun   int       // where in again the line begins that keep was called with
	behind  lineState // that line
}

// lineState is how far lines have been read.
type lineState struct {
	at     int
	offset int64
	number int64
	sum    uint32
	open   openEnd
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// took counts bytes that have been read.
func (l *lines) took(p []byte) {
	l.offset += int64(len(p))
	l.sum = crc32.Update(l.sum, castagnoli, p)
}

// Write passes over p.
func (l *lines) Write(p []byte) (int, error) {
	l.took(p)
	return len(p), nil
}

// newLines looks for the kind of text and returns the beginning, up to peekSize
// bytes, which is still to be read.
func newLines(r io.Reader) (l *lines, head []byte, err error) {
	text, err := decompress(r)
	if err != nil {
		return nil, nil, err
	}
	l = &lines{r: bufio.NewReaderSize(text, 1<<20)}
	head, err = l.r.Peek(peekSize)
	if err != nil && !errors.Is(err, io.EOF) && len(head) == 0 {
		return nil, nil, err
	}
	head = bytes.Clone(head)
	if bytes.HasPrefix(head, []byte("\xef\xbb\xbf")) {
		l.r.Discard(3)
		l.took(head[:3])
	}
	return l, head, checkBeginning(head)
}

// skip passes over what has been read before, and sees to it that it is the same
// and that its last message has not grown. begins says whether a line is the
// beginning of one; nil: any is.
func (l *lines) skip(at position, begins func(head []byte) bool) error {
	_, err := io.CopyN(l, l.r, at.Offset-l.offset)
	switch {
	case errors.Is(err, io.EOF):
		return changed(fmt.Sprintf("it ends after %d bytes, and %d were read before", l.offset, at.Offset))
	case err != nil:
		return fmt.Errorf("in what was read before: %w", err)
	case at.Sum != l.sum:
		return changed(fmt.Sprintf("the %d lines that were read before are others now", at.Lines))
	}
	l.number = at.Lines
	return l.closed(at.Open, begins)
}

// closed sees to it that a line that was open when it was read has not grown,
// and passes over a line end that it has got since.
func (l *lines) closed(open openEnd, begins func(head []byte) bool) error {
	if open == 0 {
		return nil
	}
	next, err := l.r.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(next) == 0 {
		return nil
	}
	grown := mqttetl.WithHint(fmt.Errorf("%w: its last line then, line %d, was read without an end, and has grown", ErrChanged, l.number),
		"the log keeps what was read of that line: imported into another log the file is right, and without --resume it is added to this one from its beginning")
	if open != openPayload {
		end := 0
		switch {
		case next[0] == '\n':
			end = 1
		case string(next) == "\r\n":
			end = 2
		}
		if end == 0 || open == openField {
			return grown
		}
		if _, err = io.CopyN(l, l.r, int64(end)); err != nil {
			return err
		}
	}
	if open == openLine || begins == nil {
		return nil
	}
	head, more, err := l.ahead()
	if more && !begins(head) {
		return grown
	}
	return err
}

// next returns the next line without its end, valid until the next call. At the
// end of the text it returns io.EOF; a last line without an end is one. An error
// that wraps errLong is about this line only. After any other error nothing
// more can be read, and the bytes behind the last whole line are not a line.
func (l *lines) next() ([]byte, error) {
	if l.at < len(l.again) {
		return l.nextKept(), nil
	}
	if !l.keeping {
		l.again, l.at = l.again[:0], 0
	}
	line, err := l.r.ReadSlice('\n')
	whole := line
	if errors.Is(err, bufio.ErrBufferFull) {
		whole, err = l.long(line)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errLong) {
		return nil, err
	}
	if errors.Is(err, io.EOF) && len(whole) == 0 {
		return nil, io.EOF
	}
	l.number++
	if errors.Is(err, errLong) {
		return nil, err
	}
	if l.keeping {
		l.again = gather(l.again, whole)
		l.at = len(l.again)
	}
	return l.line(whole), nil
}

// line takes a line that has been read, and cuts off its end.
func (l *lines) line(whole []byte) []byte {
	l.took(whole)
	line, ended := bytes.CutSuffix(whole, []byte("\n"))
	if !ended {
		l.open = openLine
	}
	return line
}

// nextKept is next for a line that is kept.
func (l *lines) nextKept() []byte {
	whole := l.again[l.at:]
	if end := bytes.IndexByte(whole, '\n'); end >= 0 {
		whole = whole[:end+1]
	}
	l.at += len(whole)
	l.number++
	return l.line(whole)
}

// keep begins to keep what is read, from the line on that next has returned last.
func (l *lines) keep(line []byte) {
	if l.at == 0 { // it came from the reader
		l.again = gather(l.again[:0], line)
		if l.open == 0 {
			l.again = append(l.again, '\n')
		}
		l.at = len(l.again)
	}
	l.begun = l.at - len(line)
	if l.open == 0 {
		l.begun--
	}
	if l.begun > len(l.again)-l.begun { // what has been read is not needed again
		l.again = l.again[:copy(l.again, l.again[l.begun:])]
		l.at, l.begun = l.at-l.begun, 0
	}
	l.keeping, l.behind = true, lineState{l.at, l.offset, l.number, l.sum, l.open}
}

// near says that ahead leaves the line valid that next has returned last.
func (l *lines) near() bool { return l.at < len(l.again) || l.r.Buffered() >= headSize }

// ahead returns the beginning of the next line, up to headSize bytes without its
// end; more says that there is one.
func (l *lines) ahead() (head []byte, more bool, err error) {
	if l.at < len(l.again) {
		head = l.again[l.at:min(len(l.again), l.at+headSize)]
	} else if head, err = l.r.Peek(headSize); errors.Is(err, io.EOF) {
		err = nil
	}
	if end := bytes.IndexByte(head, '\n'); end >= 0 {
		return bytes.TrimSuffix(head[:end], []byte("\r")), true, nil
	}
	return head, len(head) > 0, err
}

// kept is how many bytes have been read since keep, with its line.
func (l *lines) kept() int { return l.at - l.begun }

// text is all that was kept, without the last line's end.
func (l *lines) text() []byte { return bytes.TrimSuffix(l.again[l.begun:l.at], []byte("\n")) }

// whole ends keeping and returns all that was kept.
func (l *lines) whole() []byte {
	l.keeping = false
	return l.text()
}

// back ends keeping and returns the line that it began with; those behind it are
// read again.
func (l *lines) back() []byte {
	b := l.behind
	l.keeping, l.at, l.offset, l.number, l.sum, l.open = false, b.at, b.offset, b.number, b.sum, b.open
	return bytes.TrimSuffix(bytes.TrimSuffix(l.again[l.begun:l.at], []byte("\n")), []byte("\r"))
}

// long goes on with a line that is longer than the buffer. Of one that is
// longer than maxLine nothing is kept.
func (l *lines) long(front []byte) ([]byte, error) {
	l.buf = gather(l.buf[:0], front)
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.buf)+len(part) > maxLine {
			l.took(l.buf)
			return nil, l.pass(part, err)
		}
		l.buf = gather(l.buf, part)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return l.buf, err
		}
	}
}

// pass goes to the end of a line of which part has been read last.
func (l *lines) pass(part []byte, err error) error {
	for {
		l.took(part)
		if errors.Is(err, io.EOF) {
			l.open = openLine
			return errLong
		}
		if err == nil {
			return errLong
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		part, err = l.r.ReadSlice('\n')
	}
}

// gather appends to a line. It grows twofold, in steps of which the last is
// maxLine: the copy that each leaves behind is half of the next.
func gather(line, part []byte) []byte {
	if need := len(line) + len(part); need > cap(line) {
		size := maxLine
		for size/2 >= max(need, 2*cap(line), minGather) {
			size /= 2
		}
		line = append(make([]byte, 0, max(size, need)), line...)
	}
	return append(line, part...)
}
