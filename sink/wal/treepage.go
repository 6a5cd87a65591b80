package wal

import (
	"encoding/binary"
	"fmt"
)

// What stands in the pages of LMDB 0.9's trees on a 64-bit machine.

// Page header: number (8 bytes), padding (2), flags (2), then the bounds of the
// free space (2, 2) or, on the first of a run of overflow pages, their number (4).
const (
	pageFlagsAt = 10
	pageLowerAt = 12
	pageUpperAt = 14
	pageHeader  = 16

	branchPage   = 0x01
	leafPage     = 0x02
	overflowPage = 0x04
)

// Node: four 16-bit words, then the key and the data. The words are the size
// of the data (2), flags and size of the key in a leaf, and the number of the
// child (3) and the size of the key in a branch.
const (
	nodeHeader = 8

	bigData = 0x01 // the data is the number of the first of a run of overflow pages
	subData = 0x02 // the data is the record of a database
)

// Database record: padding (4 bytes), flags (2), depth (2), numbers of branch,
// leaf and overflow pages and of entries (8 each), root (8).
const (
	dbFlagsAt   = 4
	dbDepthAt   = 6
	dbEntriesAt = 32
	dbRootAt    = 40
	dbRecord    = 48

	freeDBAt = 40 // in a meta page
	mainDBAt = 88

	noRoot   = ^uint64(0)
	maxDepth = 32  // CURSOR_STACK
	maxKey   = 511 // MDB_MAXKEYSIZE
)

// frame is one page that is being looked at.
type frame struct {
	bytes []byte
	nodes []node
}

// nodes checks the header of a page and that its nodes fill what is behind the
// free space, without a gap and without sharing a byte.
func (c *treeCheck) nodes(f *frame, number uint64, leaf bool) error {
	word := func(at int) int { return int(binary.NativeEndian.Uint16(f.bytes[at:])) }
	if n := binary.NativeEndian.Uint64(f.bytes); n != number {
		return damagedPage(number, "numbered %d", n)
	}
	want := branchPage
	if leaf {
		want = leafPage
	}
	if flags := word(pageFlagsAt); flags != want {
		return damagedPage(number, "flags %#x instead of %#x", flags, want)
	}
	lower, upper := word(pageLowerAt), word(pageUpperAt)
	if lower <= pageHeader || lower%2 != 0 || lower > upper || upper > c.psize {
		return damagedPage(number, "free space from %d to %d", lower, upper)
	}
	clear(c.ends)
	f.nodes = f.nodes[:0]
	for i := pageHeader; i < lower; i += 2 {
		at := word(i)
		if at < upper || at > c.psize-nodeHeader || c.ends[at] != 0 {
			return damagedPage(number, "node %d at %d", (i-pageHeader)/2, at)
		}
		n, err := c.node(f.bytes, at, leaf)
		if err != nil {
			return damagedPage(number, "node %d: %v", (i-pageHeader)/2, err)
		}
		c.ends[at] = min(n.end, c.psize)
		f.nodes = append(f.nodes, n)
	}
	at := upper
	for range f.nodes {
		at = c.ends[at]
	}
	if at != c.psize {
		return damagedPage(number, "its %d nodes do not fill it", len(f.nodes))
	}
	return nil
}

// node is an entry of a page.
type node struct {
	child uint64 // in a branch
	flags int    // in a leaf, as are
	size  int    // of the data, and
	data  []byte // what of it stands in the page
	key   []byte
	end   int // where in the page the next one begins
}

func (c *treeCheck) node(p []byte, at int, leaf bool) (n node, err error) {
	word := func(i int) uint64 { return uint64(binary.NativeEndian.Uint16(p[at+2*i:])) }
	key := int(word(3))
	body := at + nodeHeader + key
	if key > maxKey || body > len(p) {
		return n, fmt.Errorf("key of %d bytes", key)
	}
	n.key = p[at+nodeHeader : body]
	if !leaf {
		n.child, n.end = word(0)|word(1)<<16|word(2)<<32, body+body%2
		return n, nil
	}
	n.size, n.flags = int(word(0)|word(1)<<16), int(word(2))
	inPage := n.size
	if n.flags == bigData {
		inPage = 8
	}
	if n.flags&^(bigData|subData) != 0 || n.flags == bigData|subData || len(n.key) == 0 {
		return n, fmt.Errorf("flags %#x, key of %d bytes", n.flags, key)
	}
	if inPage > len(p)-body {
		return n, fmt.Errorf("value of %d bytes", n.size)
	}
	n.data, n.end = p[body:body+inPage], body+inPage+(body+inPage)%2
	return n, nil
}

func readTree(name string, record []byte) tree {
	return tree{
		name: name, depth: int(binary.NativeEndian.Uint16(record[dbDepthAt:])),
		entries: binary.NativeEndian.Uint64(record[dbEntriesAt:]), root: binary.NativeEndian.Uint64(record[dbRootAt:]),
	}
}
