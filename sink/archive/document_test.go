package archive

import (
	"database/sql"
	"os"
	"regexp"
	"strings"
	"testing"
)

// docs/query.md names each table and each of its columns.
func TestQueryDocumentHasTheSchema(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(schema + readingsSchema + latestSchema + rawSchema + birthsSchema); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../docs/query.md")
	if err != nil {
		t.Fatal(err)
	}
	described := map[string]string{} // columns, as they stand in the document
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+) \\| [^|]+ \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			described[name[1]] = row[2]
		}
	}
	rows, err := db.Query(`SELECT s.name, c.name FROM sqlite_schema s, pragma_table_info(s.name) c WHERE s.type IN ('table', 'view')`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			t.Fatal(err)
		}
		if n++; !strings.Contains(described[table], "`"+column+"`") {
			t.Errorf("docs/query.md has no column %s of %s: %q", column, table, described[table])
		}
	}
	if err := rows.Err(); err != nil || n < 40 {
		t.Fatalf("%d columns, %v", n, err)
	}
}
