package batch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/news"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Stats are the state of a Batcher at one moment.
type Stats struct {
	Open   bool        // the archive is open and in use
	Cursor mqttetl.Seq // the last record that is durably archived, as far as known
	Error  string      // why the archive is not open, "" when it is
	Since  time.Time   // of the error: when the outage began

	WAL     int64  // bytes of the archive's write-ahead log
	WALHeld string // who keeps it from being emptied, "" for nobody

	// OldestPending is the receipt of the oldest record that was read from the
	// log and is not committed. Zero: none.
	OldestPending time.Time
}

// Stats may be called at any time, from any goroutine.
func (b *Batcher) Stats() Stats {
	b.state.Lock()
	defer b.state.Unlock()
	return b.state.Stats
}

// state is what Stats shows, and what has been said of an outage.
type state struct {
	sync.Mutex
	Stats
	trouble news.Trouble
}

// opened: the archive is open. After an outage it counts as open only once it
// has proved to work (see recovered): one on a full disk can be opened.
func (s *state) opened(cursor mqttetl.Seq) {
	s.Lock()
	defer s.Unlock()
	s.Cursor = cursor
	s.Open = s.Since.IsZero()
}

func (s *state) reading(oldest time.Time) {
	s.Lock()
	defer s.Unlock()
	if s.OldestPending.IsZero() {
		s.OldestPending = oldest
	}
}

func (s *state) committed(cursor mqttetl.Seq) {
	s.Lock()
	defer s.Unlock()
	s.Cursor, s.OldestPending = cursor, time.Time{}
}

// sawWAL shows the write-ahead log, and says once that a reader holds it.
func (b *Batcher) sawWAL(w store.Pending) {
	b.Metrics.wal.Set(float64(w.Bytes))
	if w.Kept > b.walKept {
		b.Metrics.walKept.Add(float64(w.Kept - b.walKept))
	}
	b.walKept = w.Kept
	s := &b.state
	s.Lock()
	was := s.WALHeld
	s.WAL, s.WALHeld = w.Bytes, w.Held
	s.Unlock()
	switch {
	case was == "" && w.Held != "":
		b.Logger.Warn("the archive's write-ahead log grows: a reader keeps it from being emptied", "bytes", w.Bytes, "reason", w.Held,
			"hint", "let that process go on, or end it")
	case was != "" && w.Held == "":
		b.Logger.Info("the archive's write-ahead log can be emptied again", "bytes", w.Bytes)
	}
}

func (s *state) closed(err error) {
	s.Lock()
	defer s.Unlock()
	s.Open = false
	if err != nil {
		s.Error = err.Error()
	}
}

// outage says that the archive cannot be used.
func (b *Batcher) outage(err error) {
	s := &b.state
	l := s.trouble.Failed(err.Error())
	s.Lock()
	defer s.Unlock()
	s.Since = l.Since
	if !l.Say {
		return
	}
	args := []any{"error", err, "since", s.Since, "attempts", l.Times}
	if hint := mqttetl.Hint(err); hint != "" {
		args = append(args, "hint", hint)
	}
	level := slog.LevelWarn
	if errors.Is(err, mqttetl.ErrDamaged) || errors.Is(err, store.ErrTable) { // does not pass until someone acts
		level = slog.LevelError
	}
	b.Logger.Log(context.Background(), level, "archive unavailable, records wait in the log", args...)
}

// recovered says that an outage is over, when there was one.
func (b *Batcher) recovered(cursor mqttetl.Seq) {
	s := &b.state
	s.Lock()
	if s.Since.IsZero() {
		s.Unlock()
		return
	}
	s.Open, s.Error, s.Since = true, "", time.Time{}
	s.Unlock()
	l := s.trouble.Over()
	if !l.Say {
		return
	}
	args := []any{"cursor", cursor, "after", l.For.Round(time.Millisecond)}
	if pending, _, err := b.log.Lag(); err == nil {
		args = append(args, "pending", pending)
	}
	b.Logger.Info("archive available again", args...)
}

// newBackoff is the pause between attempts.
func newBackoff() *backoff.Backoff {
	return &backoff.Backoff{First: 100 * time.Millisecond, Most: 10 * time.Second}
}
