package archive_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// Rows and cursor change in one transaction. After a crash, Cursor says with
// which record to go on.
func Example() {
	dir, err := os.MkdirTemp("", "archive")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "telemetry.db")
	a, err := archive.Open(path, "0123456789abcdef")
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	err = a.Append([]mqttetl.Record{{Seq: 1, Time: 1_767_642_776_000_000_000, Source: "plant",
		Message: mqttetl.Message{Topic: []byte("factory/1/temp"), Payload: []byte("21.5")}}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("before the commit:", a.Cursor())
	if err := a.Commit(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("after it:", a.Cursor())

	report, err := archive.Verify(context.Background(), path, true)
	fmt.Println("damage:", len(report.Problems), err)
	// Output:
	// before the commit: 0
	// after it: 1
	// damage: 0 <nil>
}
