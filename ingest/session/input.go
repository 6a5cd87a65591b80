package session

import (
	"io"
	"time"
)

// inputSize is the usual size of the read buffer of a connection that brings much,
// in bytes: what one read system call can bring.
const inputSize = 256 << 10

// idleReads is how many reads in a row must leave most of a buffer empty until it
// is given back for a smaller one.
const idleReads = 16

// input is the read buffer of one connection.
type input struct {
	buf  []byte
	r, w int   // buf[r:w] is received and not yet parsed
	now  int64 // when the last bytes came, Unix nanoseconds
	got  int   // how many they were

	least int // size of the buffer of a sender that brings little; 0: inputSize
	idle  int // reads in a row that left most of the buffer empty
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
	case in.w == 0 && len(in.buf) != in.usual():
		in.buf = make([]byte, in.usual())
	case in.w == len(in.buf):
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
}

// usual is the size that the buffer should have when it is empty.
func (in *input) usual() int {
	if in.least == 0 {
		return inputSize
	}
	size := max(in.least, min(len(in.buf), inputSize))
	switch {
	case in.got >= size:
		in.idle, size = 0, min(2*size, inputSize)
	case in.got >= size/8:
		in.idle = 0
	default:
		if in.idle++; in.idle > idleReads && size > in.least {
			in.idle, size = 0, in.least
		}
	}
	return size
}
