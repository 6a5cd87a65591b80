package wire

import "io"

// An Input reads packets in place, as many of a read as are whole. Its buffer
// grows when it is full of one unfinished packet, so never beyond twice what was
// received.
type Input struct {
	buf  []byte
	r, w int // buf[r:w] is received and not yet taken
}

// NewInput has a buffer of size bytes.
func NewInput(size int) *Input { return &Input{buf: make([]byte, size)} }

// Grow makes the buffer at least size bytes long.
func (in *Input) Grow(size int) {
	if len(in.buf) < size {
		in.buf = append(in.buf, make([]byte, size-len(in.buf))...)
	}
}

// Fill reads once, at least one byte. What Packet has returned is then invalid.
func (in *Input) Fill(from io.Reader) error {
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if in.w == len(in.buf) {
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
	n, err := from.Read(in.buf[in.w:])
	if in.w += n; n > 0 {
		return nil // an error is reported again by the next Read
	}
	return err
}

// Bytes are what has been read and not taken.
func (in *Input) Bytes() []byte { return in.buf[in.r:in.w] }

// Skip takes n of them.
func (in *Input) Skip(n int) { in.r += n }

// Packet takes the next packet out of what has been read: its first byte, and
// what follows the fixed header. ok is false if none is whole.
func (in *Input) Packet() (first byte, body []byte, ok bool, err error) {
	b := in.Bytes()
	first, size, remaining, err := FixedHeader(b)
	if err != nil || size == 0 || len(b) < size+remaining {
		return 0, nil, false, err
	}
	in.r += size + remaining
	return first, b[size : size+remaining], true, nil
}

// Await is Packet that reads until there is one.
func (in *Input) Await(from io.Reader) (first byte, body []byte, err error) {
	for {
		first, body, ok, err := in.Packet()
		if ok || err != nil {
			return first, body, err
		}
		if err := in.Fill(from); err != nil {
			return 0, nil, err
		}
	}
}
