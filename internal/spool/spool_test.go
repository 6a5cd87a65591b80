package spool

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// The order of bytes stays when they go through memory, the file, and memory
// again; the end of the reader ends the writer; a full disk is told.
func TestSpool(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	out, in := io.Pipe()
	s := New(in)
	var want, got bytes.Buffer
	part := make([]byte, mostMemory/3)
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
	s.most = s.written + mostMemory
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
