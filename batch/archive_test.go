package batch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// shelf is an archive of another kind, in memory: what is committed, and what can
// go wrong next.
type shelf struct {
	mu      sync.Mutex
	records []mqttetl.Seq
	letters int
	opened  int
	fails   []error // of Commit and State in turn; nil: it works
}

// hand is an open shelf.
type hand struct {
	*shelf
	next    []mqttetl.Seq
	letters int
	at      mqttetl.Seq
	kept    int // records before the last commit
}

func (s *shelf) open(store.Options) (Archive, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	h := &hand{shelf: s, kept: len(s.records)}
	if n := len(s.records); n > 0 {
		h.at = s.records[n-1]
	}
	return h, nil
}

func (s *shelf) fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fails) == 0 {
		return nil
	}
	err := s.fails[0]
	s.fails = s.fails[1:]
	return err
}

func (h *hand) Birth(string, string) (string, error)                   { return "", nil }
func (h *hand) BirthsAfter(string, string, int) ([]store.Birth, error) { return nil, nil }
func (h *hand) Cursor() mqttetl.Seq                                    { return h.at }
func (h *hand) StartAt(mqttetl.Seq) error                              { return nil }
func (h *hand) Keep(m *store.Made) error                               { h.letters += len(m.Letters); return nil }
func (h *hand) State() (store.State, error) {
	err := h.fault()
	if err != nil { // it was committed to a file that is gone
		h.records = h.records[:h.kept]
	}
	return store.State{Room: 1 << 40}, err
}

func (h *hand) Close() error { return nil }

func (h *hand) Append(records []mqttetl.Record) error {
	for i := range records {
		h.next = append(h.next, records[i].Seq)
	}
	return nil
}

func (h *hand) Commit() error {
	if err := h.fault(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = len(h.records)
	h.records, h.shelf.letters = append(h.records, h.next...), h.shelf.letters+h.letters
	if n := len(h.records); n > 0 {
		h.at = h.records[n-1]
	}
	h.next, h.letters = nil, 0
	return nil
}

// A Batcher needs nothing of an archive but its methods: each record is in any archive
// once, whatever fails, and the log hears of a position only after State.
func TestAnyArchive(t *testing.T) {
	log := newMemoryLog()
	log.add(100)
	broken := errors.New("broken")
	s := &shelf{fails: []error{nil, nil, nil, broken, nil, nil, broken, nil, broken, nil, nil, store.ErrChanged}}
	b := New(Config{Name: "shelf", Open: s.open, Count: 7, Period: time.Millisecond}, log)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- b.Run(ctx) }()
	var want []mqttetl.Seq
	for seq := range mqttetl.Seq(100) {
		want = append(want, seq+1)
	}
	log.archived(t)
	cancel()
	must(t, <-ended)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.records, want) {
		t.Errorf("got %v, want %v", s.records, want)
	}
	if s.opened < 3 {
		t.Errorf("opened %d times", s.opened)
	}
}
