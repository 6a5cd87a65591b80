package pages

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"
)

// Whatever a page holds, reading it ends with rows or with an error.
func FuzzPage(f *testing.F) {
	path := filepath.Join(f.TempDir(), "a.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		f.Fatal(err)
	}
	_, err = db.Exec(`CREATE TABLE messages(seq INTEGER PRIMARY KEY, time INTEGER, topic_id INTEGER, source_id INTEGER, flags INTEGER, payload ANY, properties TEXT) STRICT;
		WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
		INSERT INTO messages SELECT i, i * 1000000007, i % 7, 1, i % 3, CASE i % 4 WHEN 0 THEN x'00ff' WHEN 1 THEN printf('%.*c', i, 'x') ELSE 'payload ' || i END,
			CASE i % 5 WHEN 0 THEN '{"a":1}' END FROM n`)
	if err != nil {
		f.Fatal(err)
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	const size = 4096
	for n := 1; n < 14; n++ {
		f.Add(file[n*size : (n+1)*size])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		p := page(b)
		if p.check() != nil {
			return
		}
		for i := range p.cells() {
			if p.kind() == pageInterior {
				p.child(i)
				continue
			}
			if row, err := p.row(i); err == nil && row.overflow == 0 {
				decodeRow(row.local)
			}
		}
	})
}
