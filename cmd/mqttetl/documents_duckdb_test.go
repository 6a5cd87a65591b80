//go:build brokers

package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var modules = flag.String("modules", "", "node_modules with @duckdb/node-api")

// duckdb is the command of this name as far as the documents use it: Debian has no
// package of it, npm has the library.
const duckdb = `#!/usr/bin/env node
const { DuckDBInstance } = require(%q);
(async () => {
  const connection = await (await DuckDBInstance.create(":memory:")).connect();
  const reader = await connection.runAndReadAll(process.argv[3]);
  for (const row of reader.getRowsJson()) console.log(row.join("|"));
})().catch((err) => { console.error(err.message); process.exit(1); });
`

func TestDocumentsWithDuckDB(t *testing.T) {
	shim := t.TempDir()
	script := fmt.Sprintf(duckdb, filepath.Join(*modules, "@duckdb/node-api"))
	if err := os.WriteFile(filepath.Join(shim, "duckdb"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", shim+":"+os.Getenv("PATH"))
	runDocument(t, documents(t)["docs/query.md"], "sh duckdb")
}
