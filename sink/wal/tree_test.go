package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// manySegments makes a log whose tree of segments has branches, with values in
// the leaves and in pages of their own, and with free pages.
func manySegments(t testing.TB) (dir string, records int) {
	t.Helper()
	dir = t.TempDir()
	r := open(t, dir, Options{Consumers: []string{"c"}})
	r.Consumer("c").Seek(0)
	for i := range 200 {
		size := 100
		if i%9 == 0 {
			size = 6000
		}
		r.put("s", fmt.Sprint("first ", i, strings.Repeat("x", size)), fmt.Sprint("second ", i))
		if i == 100 {
			r.Consumer("c").Commit(60)
		}
	}
	r.close()
	return dir, 400
}

// treePages are the numbers of the branch and leaf pages in a file.
func treePages(p []byte, flags uint16) (all []int) {
	for n := 2; (n+1)*4096 <= len(p); n++ {
		page := p[n*4096:]
		if binary.NativeEndian.Uint64(page) == uint64(n) && binary.NativeEndian.Uint16(page[pageFlagsAt:]) == flags {
			all = append(all, n)
		}
	}
	return all
}

// readsRight opens the log as the service and as verify do. Either says that
// it is damaged, or every record is as it was written.
func readsRight(t *testing.T, dir string, records int) (damaged bool) {
	t.Helper()
	rep, err := Verify(dir, nil)
	damaged = err != nil || len(rep.Problems) > 0
	if err != nil && !errors.Is(err, mqttetl.ErrDamaged) {
		t.Errorf("Verify: %v", err)
	}
	l, err := Open(dir, Options{Consumers: []string{"c"}})
	if err != nil {
		if !errors.Is(err, mqttetl.ErrDamaged) || !damaged {
			t.Errorf("Open: %v; Verify: %+v", err, rep)
		}
		return damaged
	}
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- l.Run(ctx) }()
	defer func() { cancel(); <-end; l.Close() }()
	c := l.Consumer("c")
	for at, err := c.Seek(l.Stats().First - 1); err == nil && int(at) <= records; {
		var recs []mqttetl.Record
		if recs, err = c.Next(ctx, 100); err != nil {
			if !errors.Is(err, mqttetl.ErrDamaged) || !damaged {
				t.Errorf("Next: %v; Verify: %+v", err, rep)
			}
			return damaged
		}
		for _, rec := range recs {
			want := fmt.Sprint([]string{"second ", "first "}[rec.Seq%2], (rec.Seq-1)/2)
			if rec.Seq != at || strings.TrimRight(string(rec.Payload), "x") != want {
				t.Errorf("record %d is %.20q, want %d %q", rec.Seq, rec.Payload, at, want)
			}
			at++
		}
	}
	c.Commit(l.Stats().Last) // trims all it can
	stored := make(chan error, 1)
	b := &mqttetl.Batch{Source: "s", Done: func(_ mqttetl.Seq, err error) { stored <- err }}
	b.Append(1, mqttetl.Message{Topic: []byte("t"), Payload: []byte("more")})
	l.Append(b)
	if err := <-stored; err != nil && !(damaged && errors.Is(err, mqttetl.ErrDamaged)) {
		t.Errorf("Append: %v", err)
	}
	return damaged
}

// TestTreeDamage: what LMDB would follow to its death is found before.
func TestTreeDamage(t *testing.T) {
	word := func(page, at int, to uint16) func([]byte) {
		return func(p []byte) { binary.NativeEndian.PutUint16(p[page*4096+at:], to) }
	}
	clean, records := manySegments(t)
	intact, err := os.ReadFile(filepath.Join(clean, dataFile))
	if err != nil {
		t.Fatal(err)
	}
	if readsRight(t, copyOf(t, intact, func([]byte) {}), records) {
		t.Fatal("damaged before it was damaged")
	}
	newest := 0
	if binary.NativeEndian.Uint64(intact[4096+metaTxnAt:]) > binary.NativeEndian.Uint64(intact[metaTxnAt:]) {
		newest = 1
	}
	meta := func(at int) int { return int(binary.NativeEndian.Uint64(intact[newest*4096+at:])) }
	databases, free := meta(mainDBAt+dbRootAt), meta(freeDBAt+dbRootAt)
	node := int(binary.NativeEndian.Uint16(intact[free*4096+pageHeader:]))
	for name, spoil := range map[string]func([]byte){
		"zeroed":                  func(p []byte) { clear(p[databases*4096 : (databases+1)*4096]) },
		"a leaf that is a branch": word(databases, pageFlagsAt, branchPage),
		"no entries":              word(databases, pageLowerAt, pageHeader),
		"too many entries":        word(databases, pageLowerAt, 4090),
		"an entry in the header":  word(databases, pageHeader, 4),
		"an entry at the end":     word(databases, pageHeader, 4092),
		"depth":                   word(newest, mainDBAt+dbDepthAt, 7),
		"root":                    word(newest, mainDBAt+dbRootAt, 3),
		"root behind the end":     word(newest, mainDBAt+dbRootAt+4, 1),
		"entries":                 word(newest, mainDBAt+dbEntriesAt, 4),
		"last page":               word(newest, metaLastAt, 9),
		"page size":               word(newest, metaPsizeAt, 4097),
		"list of free pages":      word(free, node+nodeHeader+8, 0x7fff),
		"pages of a large value": func(p []byte) {
			for _, n := range treePages(p, overflowPage) {
				p[n*4096+pageLowerAt]++
			}
		},
		"a dividing key": func(p []byte) {
			for _, n := range treePages(p, branchPage) { // some of them are no longer used
				lastNode(p, n)[nodeHeader+6]++
			}
		},
		"the newest transaction": word(newest, metaTxnAt, 1),
		"a free page in use":     word(free, node+nodeHeader+16, uint16(databases)),
	} {
		t.Run(name, func(t *testing.T) {
			if !readsRight(t, copyOf(t, intact, spoil), records) {
				t.Error("not noticed")
			}
		})
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	pages := append(treePages(intact, branchPage), append(treePages(intact, leafPage), treePages(intact, overflowPage)...)...)
	found := 0
	for range 150 {
		at, bit := pages[rnd.IntN(len(pages))]*4096, 0
		if lower := int(binary.NativeEndian.Uint16(intact[at+pageLowerAt:])); rnd.IntN(2) == 0 && lower > pageHeader && lower <= 4096 {
			n := at + pageHeader + rnd.IntN((lower-pageHeader)/2)*2
			at += min(int(binary.NativeEndian.Uint16(intact[n:]))+rnd.IntN(nodeHeader+8), 4095)
		} else {
			at += rnd.IntN(pageHeader + 40)
		}
		bit = rnd.IntN(8)
		t.Run(fmt.Sprintf("bit %d of byte %d", bit, at), func(t *testing.T) {
			if readsRight(t, copyOf(t, intact, func(p []byte) { p[at] ^= 1 << bit }), records) {
				found++
			}
		})
	}
	if found < 20 {
		t.Errorf("%d of 150 flipped bits found", found)
	}
}

// lastNode is the last node of a page.
func lastNode(p []byte, page int) []byte {
	p = p[page*4096:]
	return p[binary.NativeEndian.Uint16(p[binary.NativeEndian.Uint16(p[pageLowerAt:])-2:]):]
}

// copyOf makes a log of the bytes, spoiled.
func copyOf(t *testing.T, intact []byte, spoil func([]byte)) (dir string) {
	t.Helper()
	dir = t.TempDir()
	p := append([]byte(nil), intact...)
	spoil(p)
	if err := os.WriteFile(filepath.Join(dir, dataFile), p, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// FuzzTree changes bytes of an intact log, four bytes of input for each: page,
// place (2) and value. Whatever they are: it is damaged, or all records are right,
// and nothing dies.
func FuzzTree(f *testing.F) {
	clean, records := manySegments(f)
	intact, err := os.ReadFile(filepath.Join(clean, dataFile))
	if err != nil {
		f.Fatal(err)
	}
	pages := append([]int{0, 1}, append(treePages(intact, branchPage), treePages(intact, leafPage)...)...)
	f.Add([]byte{0, 40, 0, 17})
	f.Add([]byte{1, 0, 136, 3, 2, 0, 10, 4})
	f.Fuzz(func(t *testing.T, edits []byte) {
		readsRight(t, copyOf(t, intact, func(p []byte) {
			for ; len(edits) >= 4; edits = edits[4:] {
				at := int(binary.BigEndian.Uint16(edits[1:])) % 4096
				p[pages[int(edits[0])%len(pages)]*4096+at] = edits[3]
			}
		}), records)
	})
}
