package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// model is what an archive must hold: committed rows and gaps, and what the
// open transaction would add.
type model struct {
	t   *testing.T
	rnd *rand.Rand
	dir string
	n   int // copies made by crashes

	a       *Archive
	next    mqttetl.Seq
	pending []string // of the open transaction
	rows    []string // as the view shows them
	cursor  mqttetl.Seq
}

// TestRandomOperations runs random operations, crashes among them, against a
// model in memory, and compares all rows after each crash and at the end.
func TestRandomOperations(t *testing.T) {
	for range 20 {
		seed := rand.Uint64()
		m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 0)), dir: t.TempDir(), next: 1}
		m.a = mustOpen(t, m.path())
		for range 60 {
			m.step()
		}
		m.crash()
		must(t, m.a.Close())
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (m *model) path() string { return filepath.Join(m.dir, fmt.Sprint(m.n, ".db")) }

func (m *model) step() {
	switch m.rnd.IntN(12) {
	case 0, 1, 2, 3, 4, 5:
		m.append(1 + m.rnd.IntN(30))
	case 6, 7:
		m.commit()
	case 8:
		must(m.t, m.a.Rollback())
		m.undo()
	case 9:
		gap := mqttetl.Seq(m.rnd.IntN(5))
		must(m.t, m.a.StartAt(m.next+gap))
		m.next += gap
	case 10:
		must(m.t, m.a.Close())
		m.undo()
		m.a = mustOpen(m.t, m.path())
		m.compare()
	case 11:
		m.crash()
	}
	if m.a.Cursor() != m.cursor {
		m.t.Fatalf("cursor %d, model %d", m.a.Cursor(), m.cursor)
	}
}

func (m *model) append(n int) {
	var rs []mqttetl.Record
	for range n {
		payload := make([]byte, m.rnd.IntN(300))
		for i := range payload {
			payload[i] = byte(m.rnd.IntN(256) >> m.rnd.IntN(8))
		}
		r := record(m.next, fmt.Sprint("t/", m.rnd.IntN(40)), string(payload))
		r.Source, r.Flags = fmt.Sprint("s", m.rnd.IntN(3)), mqttetl.Flags(m.rnd.IntN(3))
		rs = append(rs, r)
		m.pending = append(m.pending, fmt.Sprintf("%d %s %s %d %x", r.Seq, r.Topic, r.Source, r.Flags, payload))
		m.next++
	}
	must(m.t, m.a.Append(rs))
}

func (m *model) commit() {
	must(m.t, m.a.Commit())
	m.rows = append(m.rows, m.pending...)
	m.pending, m.cursor = nil, m.next-1
}

func (m *model) undo() { m.pending, m.next = nil, m.cursor+1 }

// crash goes on with a copy of the files as they are now.
func (m *model) crash() {
	old := m.path()
	m.n++
	for _, suffix := range []string{"", walSuffix, shmSuffix} {
		data, err := os.ReadFile(old + suffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(m.t, err)
		must(m.t, os.WriteFile(m.path()+suffix, data, 0o640))
	}
	must(m.t, m.a.Close())
	m.a = mustOpen(m.t, m.path())
	m.undo()
	m.compare()
}

func (m *model) compare() {
	m.t.Helper()
	rows, err := m.a.conn.QueryContext(background, `SELECT seq, topic, source, qos, lower(hex(payload)) FROM msg ORDER BY seq`)
	must(m.t, err)
	n := 0
	must(m.t, eachRow(rows, func() error {
		var seq, qos int64
		var topic, source, payload string
		err := rows.Scan(&seq, &topic, &source, &qos, &payload)
		if got := fmt.Sprintf("%d %s %s %d %s", seq, topic, source, qos, payload); n >= len(m.rows) || got != m.rows[n] {
			m.t.Fatalf("row %d is %s", n, got)
		}
		n++
		return err
	}))
	if n != len(m.rows) {
		m.t.Fatalf("%d rows, model has %d", n, len(m.rows))
	}
	sound(m.t, m.path(), m.cursor)
}
