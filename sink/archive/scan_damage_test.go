package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// A bit that has turned where the tree is held together hides no row: it is told,
// or makes no difference.
func TestDamagedTreeHidesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	a := mustOpen(t, path)
	const rows = 12000
	must(t, a.Append(records(1, rows)))
	must(t, a.Commit())
	must(t, a.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	spots := treeSpots(t, path)
	random := rand.New(rand.NewPCG(3, 4))
	const trials = 500
	told := 0
	for trial := range trials {
		at := spots[random.IntN(len(spots))]
		bit := byte(1) << random.IntN(8)
		damaged := bytes.Clone(whole)
		damaged[at] ^= bit
		path := filepath.Join(dir, "damaged.db")
		must(t, os.WriteFile(path, damaged, 0o600))
		r, err := OpenReader(path)
		must(t, err)
		got, err := scanAll(r, mqttetl.Selection{})
		must(t, r.Close())
		if err != nil {
			if !errors.Is(err, mqttetl.ErrDamaged) {
				t.Fatalf("byte %d: %v", at, err)
			}
			told++
			continue
		}
		if len(got) != rows || got[rows-1].Seq != rows {
			t.Fatalf("trial %d: bit %#x of byte %d (page %d, byte %d) has turned: %d rows of %d, and no word", trial, bit, at, at/pageSize+1, at%pageSize, len(got), rows)
		}
	}
	if told < trials/2 {
		t.Errorf("only %d of %d damages were told", told, trials)
	}
}

// treeSpots are the bytes of a file that say which rows there are: of interior
// pages all that is in use, of leaves the header, the pointers and the keys
// (https://sqlite.org/fileformat2.html §1.6).
func treeSpots(t *testing.T, path string) (spots []int) {
	t.Helper()
	file, err := os.ReadFile(path)
	must(t, err)
	root, err := strconv.Atoi(shell(t, path, `SELECT rootpage FROM sqlite_schema WHERE name = 'messages'`))
	must(t, err)
	varint := func(p []byte) int {
		n := slices.IndexFunc(p[:9], func(c byte) bool { return c < 0x80 })
		return n + 1
	}
	var walk func(number int)
	walk = func(number int) {
		p := file[(number-1)*pageSize : number*pageSize]
		add := func(from, n int) {
			for i := range n {
				spots = append(spots, (number-1)*pageSize+from+i)
			}
		}
		cells := int(binary.BigEndian.Uint16(p[3:]))
		const leaf = 0x0d
		if p[0] == leaf {
			add(0, 8+2*cells)
			for i := range cells {
				at := int(binary.BigEndian.Uint16(p[8+2*i:]))
				n := varint(p[at:])
				add(at+n, varint(p[at+n:]))
			}
			return
		}
		add(0, 12+2*cells)
		for i := range cells {
			at := int(binary.BigEndian.Uint16(p[12+2*i:]))
			add(at, 4+varint(p[at+4:]))
			walk(int(binary.BigEndian.Uint32(p[at:])))
		}
		walk(int(binary.BigEndian.Uint32(p[8:])))
	}
	walk(root)
	return spots
}

// Rows that somebody has deleted are no damage.
func TestScanOfAThinnedArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 30000)))
	must(t, a.Commit())
	must(t, a.Close())
	for _, statement := range []string{
		`DELETE FROM messages WHERE seq % 7 = 3`, `DELETE FROM messages WHERE seq BETWEEN 4000 AND 9000`, `DELETE FROM messages WHERE seq > 29000`,
		`VACUUM`, `DELETE FROM messages WHERE seq % 2 = 1`, `DELETE FROM messages`,
	} {
		db, c, err := connect(path, "mode=rw")
		must(t, err)
		_, err = c.ExecContext(t.Context(), statement)
		must(t, err)
		var want []mqttetl.Seq
		rows, err := c.QueryContext(t.Context(), `SELECT seq FROM messages ORDER BY seq`)
		must(t, err)
		for rows.Next() {
			var seq int64
			must(t, rows.Scan(&seq))
			want = append(want, mqttetl.Seq(seq))
		}
		must(t, errors.Join(rows.Err(), c.Close(), db.Close()))
		r, err := OpenReader(path)
		must(t, err)
		got, err := scanAll(r, mqttetl.Selection{})
		must(t, errors.Join(err, r.Close()))
		if len(got) != len(want) {
			t.Fatalf("%s: %d rows, want %d", statement, len(got), len(want))
		}
		for i := range got {
			if got[i].Seq != want[i] {
				t.Fatalf("%s: record %d, want %d", statement, got[i].Seq, want[i])
			}
		}
	}
}

// An archive that another one takes the place of while it is read is not mixed
// with it.
func TestScanOfAReplacedArchive(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, path string){
		"replaced": func(t *testing.T, path string) {
			a, err := Open(path, "fedcba9876543210")
			must(t, err)
			must(t, errors.Join(a.Append(records(1, 40000)), a.Commit(), a.Close()))
		},
		"by one with the same log": func(t *testing.T, path string) {
			a := mustOpen(t, path)
			must(t, errors.Join(a.Append(records(1, 40000)), a.Commit(), a.Close()))
		},
		"removed": func(*testing.T, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			a := mustOpen(t, path)
			must(t, errors.Join(a.Append(records(1, 40000)), a.Commit(), a.Close()))
			r, err := OpenReader(path)
			must(t, err)
			defer r.Close()
			var sel mqttetl.Selection
			_, through, err := r.Scan(t.Context(), &sel, 1, 40000, nil)
			must(t, err)
			must(t, os.Rename(path, path+".old"))
			replace(t, path)
			for range 2 {
				if _, _, err := r.Scan(t.Context(), &sel, through+1, 40000, nil); !errors.Is(err, mqttetl.ErrUnavailable) || !strings.Contains(err.Error(), "replaced or removed") {
					t.Fatal(err)
				}
			}
		})
	}
}
