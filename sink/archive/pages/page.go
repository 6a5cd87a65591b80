package pages

import (
	"encoding/binary"
	"fmt"

	"github.com/mqttetl/mqttetl"
)

const (
	pageInterior = 0x05 // of a table: keys and child pages
	pageLeaf     = 0x0d // of a table: rows
)

// errPage is a page that is not what SQLite writes.
func errPage(what string, args ...any) error {
	return fmt.Errorf("%w: %s", mqttetl.ErrDamaged, fmt.Sprintf(what, args...))
}

// page is one page of a table's tree, without the bytes reserved at its end.
type page []byte

func (p page) kind() byte { return p[0] }
func (p page) cells() int { return int(binary.BigEndian.Uint16(p[3:])) }

// check sees to it that header and cell pointers can be read.
func (p page) check() error {
	if len(p) < 480 { // the least that a page may have for its content
		return errPage("page of %d bytes", len(p))
	}
	switch p.kind() {
	case pageInterior:
		if 12+2*p.cells() > len(p) {
			return errPage("%d cells on a page of %d bytes", p.cells(), len(p))
		}
	case pageLeaf:
		if 8+2*p.cells() > len(p) {
			return errPage("%d cells on a page of %d bytes", p.cells(), len(p))
		}
	default:
		return errPage("page type %#x", p.kind())
	}
	return nil
}

// cell returns the page from the start of cell i on.
func (p page) cell(i int) (page, error) {
	at := 8
	if p.kind() == pageInterior {
		at = 12
	}
	off := int(binary.BigEndian.Uint16(p[at+2*i:]))
	if off >= len(p) {
		return nil, errPage("cell at %d of %d", off, len(p))
	}
	return p[off:], nil
}

// child returns page number and largest key of child i of an interior page. The
// child after the last key has none.
func (p page) child(i int) (number uint32, key int64, last bool, err error) {
	if i == p.cells() {
		return binary.BigEndian.Uint32(p[8:]), 0, true, nil
	}
	c, err := p.cell(i)
	if err != nil || len(c) < 5 {
		return 0, 0, false, errPage("a child pointer cut short")
	}
	k, n := varint(c[4:])
	if n == 0 {
		return 0, 0, false, errPage("a key cut short")
	}
	return binary.BigEndian.Uint32(c), int64(k), false, nil
}

// leafCell is one row as it stands on a leaf page.
type leafCell struct {
	seq      int64
	size     int    // of the row's record
	local    []byte // the front of the record
	overflow uint32 // page of the rest, 0 if local is all
	bytes    int    // that the cell takes on the page
}

// maxRow is more than a message can have: 256 MiB, and its properties as JSON.
const maxRow = 1 << 30

// row reads cell i of a leaf page.
func (p page) row(i int) (r leafCell, err error) {
	c, err := p.cell(i)
	if err != nil {
		return r, err
	}
	size, n := varint(c)
	seq, k := varint(c[n:])
	if n == 0 || k == 0 || size > maxRow {
		return r, errPage("a row of %d bytes", size)
	}
	r.seq, r.size = int64(seq), int(size)
	c = c[n+k:]
	local := localSize(len(p), r.size)
	if local > len(c) || local < r.size && local+4 > len(c) {
		return r, errPage("row %d is cut short", r.seq)
	}
	r.local, r.bytes = c[:local:local], n+k+local
	if local < r.size {
		r.overflow = binary.BigEndian.Uint32(c[local:])
		r.bytes += 4
	}
	r.bytes = max(r.bytes, 4) // the least that SQLite gives a cell
	return r, nil
}

// full checks that the cells of a leaf, which take so many bytes together, are all
// that follows its free space: a number of cells that was damaged would hide
// rows. Where rows have been deleted the page may have holes, and nothing is said.
func (p page) full(cells int) error {
	const holes, content, fragments = 1, 5, 7 // in the header
	from := int(binary.BigEndian.Uint16(p[content:]))
	if from == 0 {
		from = 1 << 16
	}
	if binary.BigEndian.Uint16(p[holes:]) == 0 && from+cells+int(p[fragments]) != len(p) {
		return errPage("a page's %d cells take %d bytes, from %d of %d on", p.cells(), cells, from, len(p))
	}
	return nil
}

// localSize is how much of a row of n bytes stands on its leaf page, of which u
// bytes are usable (file format §1.6, "table B-tree leaf cell").
func localSize(u, n int) int {
	if n <= u-35 {
		return n
	}
	m := (u-12)*32/255 - 23
	if k := m + (n-m)%(u-4); k <= u-35 {
		return k
	}
	return m
}

// varint decodes an integer of one to nine bytes, big endian, seven bits a byte
// and eight in the ninth (file format §1.6). n is 0 if p ends before it.
func varint(p []byte) (v uint64, n int) {
	if len(p) > 0 && p[0] < 0x80 {
		return uint64(p[0]), 1
	}
	return longVarint(p)
}

func longVarint(p []byte) (v uint64, n int) {
	for i, c := range p {
		if i == 8 {
			return v<<8 | uint64(c), 9
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}

// Message is a row of messages. The bytes point into the row.
type Message struct {
	Time, Topic, Source, Flags int64
	Payload, Properties        []byte
}

// messageColumns: seq, which stands as NULL because it is the key, time,
// topic_id, source_id, flags, payload, properties.
const messageColumns = 7

// decodeRow reads a row of messages (file format §2.1).
func decodeRow(p []byte) (c Message, err error) {
	header, n := varint(p)
	if n == 0 || header < uint64(n) || header > uint64(len(p)) {
		return c, errPage("a row's header of %d bytes", header)
	}
	front, r := p[n:header], row{rest: p[header:]}
	for i := range r.types {
		t, k := varint(front)
		if k == 0 {
			return c, errPage("a row of %d columns", i)
		}
		r.types[i], front = t, front[k:]
	}
	if r.types[0] != 0 {
		r.wrong(0)
	}
	c.Time, c.Topic, c.Source, c.Flags = r.integer(1), r.integer(2), r.integer(3), r.integer(4)
	c.Payload, c.Properties = r.bytes(5), r.bytes(6)
	return c, r.err
}

// row is a row of messages that is read column by column.
type row struct {
	types [messageColumns]uint64
	rest  []byte // the values that have not been read
	err   error
}

// next returns the value of column i.
func (r *row) next(i int) []byte {
	size := serialSize(r.types[i])
	if size > uint64(len(r.rest)) {
		if r.err == nil {
			r.err = errPage("column %d is cut short", i)
		}
		return nil
	}
	value := r.rest[:size:size]
	r.rest = r.rest[size:]
	return value
}

func (r *row) wrong(i int) {
	if r.err == nil {
		r.err = errPage("column %d is of type %d", i, r.types[i])
	}
}

func (r *row) integer(i int) int64 {
	t, value := r.types[i], r.next(i)
	if t == 0 || t == 7 || t > 9 {
		r.wrong(i)
	}
	if r.err != nil {
		return 0
	}
	return serialInt(t, value)
}

// bytes is the value of a text or a blob, nil of NULL.
func (r *row) bytes(i int) []byte {
	if t := r.types[i]; t != 0 && t < 12 {
		r.wrong(i)
	}
	return r.next(i)
}

// serialSize is the length of a value of the serial type.
func serialSize(t uint64) uint64 {
	if t >= 12 {
		return (t - 12) / 2
	}
	return [12]uint64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0}[t]
}

// serialInt is the value of an integer type: big endian, two's complement.
func serialInt(t uint64, p []byte) (v int64) {
	if t >= 8 {
		return int64(t) - 8
	}
	v = int64(int8(p[0]))
	for _, c := range p[1:] {
		v = v<<8 | int64(c)
	}
	return v
}
