package decode

import (
	"encoding/binary"
	"errors"
)

// weigher adds up what the items of a payload cost before anything is made of
// them. What is no CBOR it leaves to the decoder to say.
type weigher struct {
	p    []byte
	left budget
}

// maxIndefinite is how deep items of indefinite length may nest: the decoder
// reads through each of them once more to count what is in it.
const maxIndefinite = 32

var errIndefinite = errors.New("items of indefinite length nest deeper than 32 levels")

// Costs of CBOR, of which two trees are made one after the other.
const (
	cborItemCost   = 56
	cborMapCost    = 1100
	cborMemberCost = 420
)

// item takes the next item, of depth levels at the most. done: it ends the
// indefinite one around it, or the payload is no CBOR.
func (w *weigher) item(depth, indefinite int) (done bool, err error) {
	if len(w.p) == 0 || depth < 0 {
		return true, nil
	}
	major, info := w.p[0]>>5, w.p[0]&31
	n, endless, ok := w.head(info)
	if !ok || major == 7 && endless {
		return true, nil
	}
	if err := w.left.take(cborItemCost); err != nil {
		return true, err
	}
	switch major {
	case 2, 3:
		if endless {
			return w.items(1<<62, true, 1, indefinite, 0)
		}
		if n > uint64(len(w.p)) {
			return true, nil
		}
		w.p = w.p[n:]
		return false, w.left.take(textCost + 5*int(n)) // cbor's copy, one with U+FFFD for each byte
	case 4:
		return w.items(n, endless, depth, indefinite, 0)
	case 5:
		if err := w.left.take(cborMapCost); err != nil {
			return true, err
		}
		return w.items(2*n, endless, depth, indefinite, cborMemberCost/2)
	case 6:
		return w.item(depth-1, indefinite)
	}
	return false, nil
}

// items takes n items, or those up to the end, each with a cost of its own.
func (w *weigher) items(n uint64, endless bool, depth, indefinite, cost int) (done bool, err error) {
	if endless {
		if indefinite++; indefinite > maxIndefinite {
			return true, errIndefinite
		}
		n = 1 << 62
	}
	for i := uint64(0); i < n; i++ {
		if i >= 2*smallMap {
			err = w.left.take(cost)
		}
		if err == nil {
			done, err = w.item(depth-1, indefinite)
		}
		if err != nil || done {
			return done && !endless, err
		}
	}
	return false, nil
}

// head takes the first byte and the number after it.
func (w *weigher) head(info byte) (n uint64, endless, ok bool) {
	size := 0
	switch {
	case info < 24:
		n = uint64(info)
	case info < 28:
		size = 1 << (info - 24)
	case info < 31:
		return 0, false, false
	}
	if len(w.p) < 1+size {
		return 0, false, false
	}
	var number [8]byte
	copy(number[8-size:], w.p[1:1+size])
	w.p = w.p[1+size:]
	if size > 0 {
		n = binary.BigEndian.Uint64(number[:])
	}
	return n, info == 31, true
}
