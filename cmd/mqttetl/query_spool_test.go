package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// A query whose output nobody reads must not keep the archive's write-ahead log
// from being emptied, and prints its one snapshot when it is read again.
func TestOutputThatNobodyReadsDoesNotHoldTheSnapshot(t *testing.T) {
	const rows, size = 2000, 4 << 10
	for _, args := range [][]string{{"query", "--sql", "select * from msg", "-o", "ndjson"}, {"dead-letters", "-o", "ndjson"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			path := filepath.Join(t.TempDir(), "a.db")
			a, err := archive.Open(path, "00112233445566aa")
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			seq := mqttetl.Seq(0)
			add := func() {
				recs, letters := make([]mqttetl.Record, rows), make([]mqttetl.DeadLetter, rows)
				for i := range recs {
					seq++
					recs[i] = mqttetl.Record{Seq: seq, Time: 1, Source: "x", Message: mqttetl.Message{Topic: []byte("t"), Payload: bytes.Repeat([]byte("p"), size)}}
					letters[i] = mqttetl.DeadLetter{Seq: seq, Stage: "forward", Reason: "r", Time: 1}
				}
				if err := errors.Join(a.Append(recs), a.AppendDeadLetters(letters), a.Commit()); err != nil {
					t.Fatal(err)
				}
			}
			add()
			out, in := io.Pipe()
			var errs bytes.Buffer
			code := make(chan int, 1)
			go func() {
				code <- exec(t.Context(), append(args, "--archive", path), strings.NewReader(""), in, &errs)
				in.Close()
			}()
			first := make([]byte, 10)
			if _, err := io.ReadFull(out, first); err != nil {
				t.Fatal(err)
			}
			for range 8 {
				add()
			}
			if st, err := os.Stat(path + "-wal"); err != nil || st.Size() > 40<<20 {
				t.Errorf("write-ahead log: %d bytes after %d, want at most 40 MiB (%v)", st.Size(), seq*size, err)
			}
			rest, err := io.ReadAll(out)
			if lines := bytes.Count(rest, []byte("\n")); err != nil || lines != rows || <-code != exitOK {
				t.Errorf("%d lines, want %d: %v %s", lines, rows, err, &errs)
			}
			if left, _ := os.ReadDir(os.TempDir()); len(left) > 0 {
				t.Errorf("left in the temporary directory: %v", left)
			}
		})
	}
}
