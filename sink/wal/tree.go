package wal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// LMDB follows what stands in its pages without looking: a damaged one ends the
// process by a signal, or has it overwrite what it should keep. checkTrees
// reads them first, with plain reads that cannot fault, as lmdb.h and mdb.c of
// LMDB 0.9 lay them out on a 64-bit machine.

// readsAtMost bounds how many leaf pages of segments are read, and first pages
// of large segments, so that opening takes no longer the longer the log. Of a
// large segment one page is read: these are enough for 100 GB of segments of
// 1 MiB. Only a log of very many small ones is not checked to its end.
const readsAtMost = 100_000

// treeCheck is the walk over all trees of one snapshot.
type treeCheck struct {
	file  *os.File
	psize int
	last  uint64   // page
	used  []uint64 // a bit for each page that has been met
	reads int      // of pages of segments, that may still be made
	large []extent // overflow pages of segments, to be checked together

	ends  []int    // of the nodes of one page, by where they begin
	depth int      // pages that are being looked at, and
	pages []*frame // a place for each, used again and again
}

// extent is a run of overflow pages that hold one value.
type extent struct{ first, pages uint64 }

// tree is a database within the walk.
type tree struct {
	name    string
	depth   int
	entries uint64
	root    uint64
	free    bool // LMDB's own list of free pages

	seen    uint64 // entries
	key     []byte // the one before
	low     []byte // no key is lower from here on
	skipped bool   // not all leaves were read
}

// checkTrees checks the pages of all trees of the log in dir, which env has
// open. It works beside a process that writes: the pages of a snapshot do not
// change while it is held. An error wraps mqttetl.ErrDamaged and names the page.
func checkTrees(env *lmdb.Env, dir string) error {
	f, err := os.Open(filepath.Join(dir, dataFile))
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		found := false
		err := env.View(func(txn *lmdb.Txn) error {
			meta, psize, err := metaOf(f, uint64(txn.ID()))
			if err != nil || meta == nil {
				return err
			}
			found = true
			c := treeCheck{file: f, psize: psize, last: binary.NativeEndian.Uint64(meta[metaLastAt:]), reads: readsAtMost}
			c.used, c.ends = make([]uint64, c.last/64+1), make([]int, psize+1)
			return c.trees(meta)
		})
		if errors.Is(err, mqttetl.ErrDamaged) {
			err = mqttetl.WithHint(err, "restore the log, or move its directory aside to begin a new one")
		}
		if found || err != nil {
			return err
		} // else the meta page has been replaced since the snapshot was taken
	}
}

// metaOf reads the meta page of a snapshot, nil if there is none of it any more.
func metaOf(f *os.File, txn uint64) (meta []byte, psize int, err error) {
	page := make([]byte, metaEnd)
	if _, err := f.ReadAt(page, 0); err != nil {
		return nil, 0, err
	}
	psize = int(binary.NativeEndian.Uint32(page[metaPsizeAt:]))
	if !isPageSize(int64(psize)) {
		return nil, 0, fmt.Errorf("meta page: page size %d: %w", psize, mqttetl.ErrDamaged)
	}
	for _, at := range []int64{0, int64(psize)} {
		if _, err := f.ReadAt(page, at); err != nil {
			return nil, 0, err
		}
		if binary.NativeEndian.Uint32(page[metaMagicAt:]) == metaMagic && binary.NativeEndian.Uint64(page[metaTxnAt:]) == txn {
			return page, psize, nil
		}
	}
	return nil, psize, nil
}

// trees checks the list of free pages and the tree of databases, and with it
// each of them.
func (c *treeCheck) trees(meta []byte) error {
	for name, at := range map[string]int{"databases": mainDBAt, "free pages": freeDBAt} {
		t := readTree(name, meta[at:at+dbRecord])
		t.free = at == freeDBAt
		if err := c.tree(&t); err != nil {
			return fmt.Errorf("tree of %s: %w", name, err)
		}
	}
	if err := c.largeSegments(); err != nil {
		return fmt.Errorf("tree of segments: %w", err)
	}
	return nil
}

// readers is how many pages are read at a time: they lie far apart, and a drive
// answers many questions about as fast as one.
const readers = 32

// largeSegments checks the first page of each large segment.
func (c *treeCheck) largeSegments() error {
	_ = unix.Fadvise(int(c.file.Fd()), 0, 0, unix.FADV_RANDOM) // what lies behind is not wanted
	errs := make([]error, len(c.large))
	var next atomic.Int64
	var done sync.WaitGroup
	for range min(readers, len(c.large)) {
		done.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(c.large)); i = next.Add(1) - 1 {
				errs[i] = c.overflow(c.large[i])
			}
		})
	}
	done.Wait()
	return cmp.Or(errs...)
}

func damagedPage(n uint64, format string, args ...any) error {
	return fmt.Errorf("page %d: %s: %w", n, fmt.Sprintf(format, args...), mqttetl.ErrDamaged)
}

func (c *treeCheck) tree(t *tree) error {
	if t.root == noRoot {
		if t.depth != 0 || t.entries != 0 {
			return fmt.Errorf("%d entries, no root: %w", t.entries, mqttetl.ErrDamaged)
		}
		return nil
	}
	if t.depth < 1 || t.depth > maxDepth {
		return fmt.Errorf("depth %d: %w", t.depth, mqttetl.ErrDamaged)
	}
	if err := c.page(t, t.root, 1); err != nil {
		return err
	}
	if t.seen != t.entries && !t.skipped {
		return fmt.Errorf("%d entries instead of %d: %w", t.seen, t.entries, mqttetl.ErrDamaged)
	}
	return nil
}

// take marks n pages from first on as in use. No page is used twice.
func (c *treeCheck) take(first, n uint64) error {
	if first < 2 || first > c.last || n > c.last-first+1 {
		return damagedPage(first, "%d pages from here on, the last is %d", n, c.last)
	}
	for p := first; p < first+n; p++ {
		if c.used[p/64]>>(p%64)&1 == 1 {
			return damagedPage(p, "used twice")
		}
		c.used[p/64] |= 1 << (p % 64)
	}
	return nil
}

// page checks a page of a tree and everything below it.
func (c *treeCheck) page(t *tree, number uint64, level int) error {
	if err := c.take(number, 1); err != nil {
		return err
	}
	leaf := level == t.depth
	if leaf && t.name == "segments" {
		if c.reads--; c.reads < 0 {
			t.skipped, t.key = true, append(t.key[:0], t.low...)
			return nil
		}
	}
	if c.depth == len(c.pages) {
		c.pages = append(c.pages, &frame{bytes: make([]byte, c.psize)})
	}
	f := c.pages[c.depth]
	c.depth++
	defer func() { c.depth-- }()
	if _, err := c.file.ReadAt(f.bytes, int64(number)*int64(c.psize)); err != nil {
		return damagedPage(number, "%v", err)
	}
	err := c.nodes(f, number, leaf)
	if err != nil {
		return err
	}
	for i, n := range f.nodes {
		if leaf {
			err = t.follows(n.key)
		} else if i > 0 { // the first one divides nothing
			err = t.divides(n.key)
		}
		if err != nil {
			return damagedPage(number, "node %d: %v", i, err)
		}
		if leaf {
			err = c.value(t, number, n)
		} else {
			err = c.page(t, n.child, level+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// compare orders keys as LMDB does.
func (t *tree) compare(a, b []byte) int {
	if t.free && len(a) == 8 && len(b) == 8 {
		return cmp.Compare(binary.NativeEndian.Uint64(a), binary.NativeEndian.Uint64(b))
	}
	return bytes.Compare(a, b)
}

// divides takes the key by which a branch tells a child from the one before it:
// higher than all keys so far, and not higher than any to come.
func (t *tree) divides(key []byte) error {
	if t.compare(t.key, key) >= 0 {
		return fmt.Errorf("divided by key %x after %x", key, t.key)
	}
	t.low = append(t.low[:0], key...)
	return nil
}

// follows checks that a key is higher than the one before.
func (t *tree) follows(key []byte) error {
	if t.free && len(key) != 8 || t.compare(t.key, key) >= 0 || t.compare(t.low, key) > 0 {
		return fmt.Errorf("key %x after %x, divided by %x", key, t.key, t.low)
	}
	t.key = append(t.key[:0], key...)
	t.seen++
	return nil
}

// value checks what a leaf's node leads to.
func (c *treeCheck) value(t *tree, number uint64, n node) error {
	if (n.flags == subData) != (t.name == "databases") {
		return damagedPage(number, "flags %#x of %q", n.flags, n.key)
	}
	data := n.data
	if n.flags == bigData {
		first := binary.NativeEndian.Uint64(n.data)
		run := uint64((pageHeader-1+n.size)/c.psize + 1)
		if err := c.take(first, run); err != nil {
			return err
		}
		if t.name == "segments" {
			if c.reads--; c.reads >= 0 {
				c.large = append(c.large, extent{first, run})
			}
			return nil // what is in a segment its own checksum covers
		}
		if err := c.overflow(extent{first, run}); err != nil || !t.free {
			return err
		}
		data = make([]byte, n.size)
		if _, err := c.file.ReadAt(data, int64(first)*int64(c.psize)+pageHeader); err != nil {
			return damagedPage(first, "%v", err)
		}
	}
	switch {
	case t.free:
		return c.freeList(number, data)
	case n.flags == subData:
		return c.database(number, string(n.key), data)
	}
	return nil
}

// overflow checks the header of a run of pages that hold one value.
func (c *treeCheck) overflow(e extent) error {
	var h [pageHeader]byte
	if _, err := c.file.ReadAt(h[:], int64(e.first)*int64(c.psize)); err != nil {
		return damagedPage(e.first, "%v", err)
	}
	number, flags, n := binary.NativeEndian.Uint64(h[:]), binary.NativeEndian.Uint16(h[pageFlagsAt:]), binary.NativeEndian.Uint32(h[pageLowerAt:])
	if number != e.first || flags != overflowPage || uint64(n) != e.pages {
		return damagedPage(e.first, "numbered %d, flags %#x, %d pages instead of %d", number, flags, n, e.pages)
	}
	return nil
}

// database checks one of the named databases.
func (c *treeCheck) database(number uint64, name string, record []byte) error {
	if len(record) != dbRecord || binary.NativeEndian.Uint16(record[dbFlagsAt:]) != 0 {
		return damagedPage(number, "record of database %q", name)
	}
	t := readTree(name, record)
	if err := c.tree(&t); err != nil {
		return fmt.Errorf("tree of %s: %w", name, err)
	}
	return nil
}

// freeList checks a list of free pages: its length, then their numbers, the
// highest first. None of them is used.
func (c *treeCheck) freeList(number uint64, list []byte) error {
	if len(list) < 8 || binary.NativeEndian.Uint64(list) > uint64(len(list)/8-1) {
		return damagedPage(number, "list of free pages of %d bytes", len(list))
	}
	before := c.last + 1
	for i := range binary.NativeEndian.Uint64(list) {
		p := binary.NativeEndian.Uint64(list[8+8*i:])
		if p >= before {
			return damagedPage(number, "page %d after page %d among the free ones", p, before)
		}
		if err := c.take(p, 1); err != nil {
			return err
		}
		before = p
	}
	return nil
}
