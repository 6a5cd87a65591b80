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

// The order of bytes stays when they go through memory, the file, and memory
// again; the end of the reader ends the writer; a full disk is told.
func TestSpool(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	out, in := io.Pipe()
	s := newSpool(in)
	var want, got bytes.Buffer
	part := make([]byte, spoolMemory/3)
	write := func(n int) {
		for range n {
			for i := range part {
				part[i] = byte(want.Len()/len(part) + i*7)
			}
			want.Write(part)
			if _, err := s.Write(part); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range []int{2, 11, 1, 7} {
		write(n)
		if _, err := io.CopyN(&got, out, int64(want.Len()-got.Len()-100)); err != nil {
			t.Fatal(err)
		}
	}
	s.changed.L.Lock()
	s.most = s.written + spoolMemory
	s.changed.L.Unlock()
	var err error
	for n := 0; err == nil && n < 20; n++ {
		if _, err = s.Write(part); err == nil {
			want.Write(part)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "half of what was free") || !strings.Contains(mqttetl.Hint(err), "TMPDIR") {
		t.Errorf("beyond the limit: %v", err)
	}
	if _, err := io.CopyN(&got, out, int64(want.Len()-got.Len())); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("other bytes: %v", err)
	}
	gone := errors.New("gone")
	out.CloseWithError(gone)
	for n := 0; ; n++ {
		if _, err := s.Write(part[:1]); errors.Is(err, gone) {
			break
		}
		if n > 1<<24 {
			t.Fatal("writing goes on after the reader has gone")
		}
	}
	if err := s.Close(); !errors.Is(err, gone) {
		t.Errorf("close: %v", err)
	}
}
