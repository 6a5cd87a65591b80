package session

import (
	"io"
	"time"
)

// inputSize is the usual size of a connection's read buffer, in bytes: what one
// read system call can bring.
const inputSize = 256 << 10

// input is the read buffer of one connection.
type input struct {
	buf  []byte
	r, w int   // buf[r:w] is received and not yet parsed
	now  int64 // when the last bytes came, Unix nanoseconds
	got  int   // how many they were
}

func (in *input) bytes() []byte { return in.buf[in.r:in.w] }

func (in *input) skip(n int) { in.r += n }

// fill waits for more bytes with one call of Read. The buffer grows only when
// it is full of one unfinished frame, so never beyond twice what was received,
// and goes back to its usual size when it has been drained.
func (in *input) fill(from io.Reader) error {
	in.makeRoom()
	n, err := from.Read(in.buf[in.w:])
	in.w += n
	in.got = n
	if n > 0 {
		in.now = time.Now().UnixNano()
		return nil // an error is reported again by the next Read
	}
	return err
}

func (in *input) makeRoom() {
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	switch {
	case in.w == 0 && len(in.buf) != inputSize:
		in.buf = make([]byte, inputSize)
	case in.w == len(in.buf):
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
}
