package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// house is an archive and a log of which each can be filled by itself.
type house struct {
	t *testing.T
	Places
}

func newHouse(t *testing.T) house {
	dir := t.TempDir()
	return house{t, Places{Archive: filepath.Join(dir, "a.db"), LogDir: filepath.Join(dir, "log")}}
}

func message(n mqttetl.Seq) mqttetl.Message {
	return mqttetl.Message{Topic: fmt.Appendf(nil, "t/%d", n%3), Payload: fmt.Append(nil, n)}
}

// log appends n records, then trims up to trim if that is not 0.
func (h house) log(n, trim int) (id string) {
	h.t.Helper()
	l, err := wal.Open(h.LogDir, wal.Options{Consumers: []string{"archive"}})
	if err != nil {
		h.t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithCancel(h.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	done := make(chan error, n)
	for range n {
		b := &mqttetl.Batch{Source: "s", Done: func(_ mqttetl.Seq, err error) { done <- err }}
		b.Append(1, message(l.Stats().Last+1))
		l.Append(b)
		if err := <-done; err != nil {
			h.t.Fatal(err)
		}
	}
	if trim > 0 {
		c := l.Consumer("archive")
		if _, err := c.Seek(0); err != nil {
			h.t.Fatal(err)
		}
		for got := 0; got < trim; {
			recs, err := c.Next(h.t.Context(), trim-got)
			if err != nil {
				h.t.Fatal(err)
			}
			got += len(recs)
		}
		c.Commit(mqttetl.Seq(trim))
		l.Append(&mqttetl.Batch{Done: func(mqttetl.Seq, error) { done <- nil }}) // trimming travels with a commit
		<-done
	}
	stop()
	if err := <-ended; err != nil {
		h.t.Fatal(err)
	}
	return l.ID()
}

func (h house) fill(id string, first, last mqttetl.Seq) {
	h.t.Helper()
	a, err := archive.Open(h.Archive, id)
	if err != nil {
		h.t.Fatal(err)
	}
	defer a.Close()
	if err := a.StartAt(first); err != nil {
		h.t.Fatal(err)
	}
	for n := first; n <= last; n++ {
		if err := a.Append([]mqttetl.Record{{Seq: n, Time: 1, Source: "s", Message: message(n)}}); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := a.Commit(); err != nil {
		h.t.Fatal(err)
	}
}

// read returns the numbers of a selection and checks their messages.
func read(t *testing.T, h *History, sel mqttetl.Selection) (seqs []mqttetl.Seq) {
	t.Helper()
	for c := h.Select(sel); ; {
		recs, err := c.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return seqs
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			if want := message(r.Seq); string(r.Payload) != string(want.Payload) || string(r.Topic) != string(want.Topic) || r.Source != "s" {
				t.Fatalf("record %d: %q %q", r.Seq, r.Topic, r.Payload)
			}
			seqs = append(seqs, r.Seq)
		}
	}
}

func run(t *testing.T, seqs []mqttetl.Seq, first, last mqttetl.Seq) {
	t.Helper()
	for i, s := range seqs {
		if s != first+mqttetl.Seq(i) {
			t.Fatalf("record %d at place %d, want %d", s, i, first+mqttetl.Seq(i))
		}
	}
	if len(seqs) != int(last-first+1) {
		t.Fatalf("%d records, want %d to %d", len(seqs), first, last)
	}
}

func TestArchiveAndLogAreOneSequence(t *testing.T) {
	for _, c := range []struct {
		name                     string
		logged, trimmed          int
		archivedFrom, archivedTo mqttetl.Seq
		first                    mqttetl.Seq
	}{
		{"log alone", 20, 0, 0, 0, 1},
		{"archive behind", 20, 0, 1, 7, 1},
		{"archive up to date", 20, 0, 1, 20, 1},
		{"log trimmed", 20, 12, 1, 12, 1},
		{"archive began late", 20, 5, 6, 12, 6},
		{"log trimmed, no archive", 20, 5, 0, 0, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			id := h.log(c.logged, c.trimmed)
			if c.archivedTo > 0 {
				h.fill(id, c.archivedFrom, c.archivedTo)
			}
			all, err := Open(h.Places)
			if err != nil {
				t.Fatal(err)
			}
			defer all.Close()
			if all.LogID() != id || all.Last() != 20 {
				t.Errorf("log %s up to %d", all.LogID(), all.Last())
			}
			run(t, read(t, all, mqttetl.Selection{}), c.first, 20)
			run(t, read(t, all, mqttetl.Selection{From: 8, To: 15}), 8, 15)
			run(t, read(t, all, mqttetl.Selection{From: 10, Limit: 4}), 10, 13)
			if got := read(t, all, mqttetl.Selection{From: 10, Topics: []mqttetl.Filter{"t/0"}, Limit: 2}); len(got) != 2 || got[0] != 12 || got[1] != 15 {
				t.Errorf("records %v", got)
			}
			run(t, read(t, all, mqttetl.Selection{From: 21}), 21, 20)
		})
	}
}

// The archive takes over and the log is trimmed between two calls of Next.
func TestRecordsMoveWhileReading(t *testing.T) {
	h := newHouse(t)
	id := h.log(20, 0)
	h.fill(id, 1, 5)
	all, err := Open(h.Places)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	c := all.Select(mqttetl.Selection{})
	recs, err := c.Next(t.Context())
	if err != nil || len(recs) != 5 {
		t.Fatalf("%d records, %v", len(recs), err)
	}
	h.fill(id, 6, 18)
	all.log.Close() // an environment is open once in a process
	h.log(10, 18)
	if all.log, err = wal.OpenReader(h.LogDir); err != nil {
		t.Fatal(err)
	}
	for next := mqttetl.Seq(6); ; {
		recs, err := c.Next(t.Context())
		if errors.Is(err, io.EOF) {
			if next != 21 {
				t.Errorf("ended before record %d", next)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			if r.Seq != next {
				t.Fatalf("record %d, want %d", r.Seq, next)
			}
			next++
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	h := newHouse(t)
	if _, err := Open(h.Places); !errors.Is(err, mqttetl.ErrUnavailable) {
		t.Errorf("nothing there: %v", err)
	}
	empty := filepath.Join(t.TempDir(), "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want := "archive " + empty + ": open for reading: nothing has been archived yet: unavailable"
	if _, err := Open(Places{Archive: empty}); !errors.Is(err, mqttetl.ErrUnavailable) || err.Error() != want {
		t.Errorf("an empty archive: %v, want %s", err, want)
	}
	if _, err := Open(Places{}); !errors.Is(err, mqttetl.ErrUnavailable) {
		t.Errorf("no places: %v", err)
	}
	h.log(3, 0)
	h.fill("another log", 1, 3)
	if _, err := Open(h.Places); !errors.Is(err, mqttetl.ErrForeign) {
		t.Errorf("an archive of another log: %v", err)
	}
}

// Between an archive that was put back from an older copy and a log that has
// trimmed behind it records are missing, and that is told.
func TestGap(t *testing.T) {
	for _, c := range []struct{ archived, trimmed, first, last mqttetl.Seq }{
		{10, 40, 11, 40}, {39, 40, 40, 40}, {40, 40, 0, 0}, {45, 40, 0, 0}, {0, 40, 0, 0},
	} {
		house := newHouse(t)
		id := house.log(50, int(c.trimmed))
		if c.archived > 0 {
			house.fill(id, 1, c.archived)
		}
		h, err := Open(house.Places)
		if err != nil {
			t.Fatal(err)
		}
		if first, last, err := h.Gap(); first != c.first || last != c.last || err != nil {
			t.Errorf("%d archived, %d trimmed: %d to %d, %v; want %d to %d", c.archived, c.trimmed, first, last, err, c.first, c.last)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}
