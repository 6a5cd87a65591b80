package wal

import (
	"errors"
	"fmt"
	"testing"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
)

// hand appends a batch and waits for its commit.
func hand(t *testing.T, l *running, b *mqttetl.Batch) {
	t.Helper()
	done := make(chan error, 1)
	b.Done = func(_ mqttetl.Seq, err error) { done <- err }
	l.Append(b)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestReaderReadsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	if _, err := OpenReader(dir); !errors.Is(err, mqttetl.ErrLocked) {
		t.Fatalf("a reader beside the writer in one process: %v", err)
	}
	for i := range 5 {
		b := &mqttetl.Batch{Source: fmt.Sprint("s", i%2)}
		for j := range 10 {
			b.Append(int64(i*10+j), mqttetl.Message{Topic: []byte("t"), Payload: fmt.Append(nil, i*10+j)})
		}
		hand(t, l, b)
	}
	id := l.ID()
	l.close()

	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	first, last, err := r.Bounds()
	if err != nil || r.ID() != id || first != 1 || last != 50 {
		t.Fatalf("log %s, records %d to %d, %v", r.ID(), first, last, err)
	}
	for after := mqttetl.Seq(7); after < last; {
		recs, err := r.Behind(after)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range recs {
			after++
			if rec.Seq != after || string(rec.Payload) != fmt.Sprint(after-1) || rec.Source != fmt.Sprint("s", (after-1)/10%2) {
				t.Fatalf("record %d of %s: %q, want %d", rec.Seq, rec.Source, rec.Payload, after)
			}
		}
	}
	if _, err := r.Behind(last); !errors.Is(err, mqttetl.ErrDamaged) {
		t.Errorf("behind the end: %v", err)
	}
}

func TestNotesChangeWithTheirBatch(t *testing.T) {
	dir := t.TempDir()
	check := func(l *running, want string) {
		t.Helper()
		if got, err := l.Note("file"); err != nil || string(got) != want {
			t.Errorf("note %q, %v, want %q", got, err, want)
		}
	}
	l := open(t, dir, Options{})
	check(l, "")
	for _, value := range []string{"1", "22", "", "333"} {
		b := &mqttetl.Batch{Note: mqttetl.Note{Name: "file", Value: []byte(value)}}
		if b.Empty() {
			t.Fatal("a batch with a note counts as empty")
		}
		hand(t, l, b)
		check(l, value)
		l.close()
		l = open(t, dir, Options{})
		check(l, value)
	}
	failed := errors.New("no")
	l.close()
	broken, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	broken.update = func(op lmdb.TxnOp) error { return failed }
	done := make(chan error, 1)
	broken.Append(&mqttetl.Batch{Note: mqttetl.Note{Name: "file", Value: []byte("lost")}, Done: func(_ mqttetl.Seq, err error) { done <- err }})
	if err := broken.Run(t.Context()); !errors.Is(err, failed) || !errors.Is(<-done, failed) {
		t.Errorf("a failing commit: %v", err)
	}
	broken.Close()
	l = open(t, dir, Options{})
	check(l, "333")
}
