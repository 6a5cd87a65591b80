package prove

import (
	"context"
	"fmt"

	"github.com/mqttetl/mqttetl/test/e2e"
)

// ledger accounts for a run that is too long to be accounted for at its end: it
// keeps only what has reached one place and not yet the next.
type ledger struct {
	w        *world
	acked    map[string]bool // acknowledged to the publisher, not yet seen in the archive
	archived map[string]bool // seen in the archive, not acknowledged to the publisher: in flight, or a second record
	rows     []e2e.Archived  // seen in the archive, not yet in the stream
	last     int64           // row read last
	streamed int             // messages read of the stream
}

func newLedger(w *world) *ledger {
	return &ledger{w: w, acked: map[string]bool{}, archived: map[string]bool{}}
}

// balance reads what is new and strikes out what has arrived.
func (l *ledger) balance(ctx context.Context, t *Tally) error {
	rows, err := e2e.ReadArchiveAfter(l.w.Archive(), l.last)
	if err != nil {
		return fmt.Errorf("balance: %w", err)
	}
	if err := e2e.CheckNumbers(rows, l.last+1); err != nil {
		t.Violate("trial %d: archive: %v", t.Trials, err)
	}
	for payload := range l.w.pub.Take() {
		t.Messages++
		l.acked[payload] = true
	}
	for _, r := range rows {
		l.last = r.Seq
		l.archived[r.Payload] = true
	}
	l.rows = append(l.rows, rows...)
	for payload := range l.acked {
		if l.archived[payload] {
			delete(l.acked, payload)
			delete(l.archived, payload)
		}
	}
	stream, err := e2e.ReadStreamAfter(ctx, l.w.nats.URL(), "E2E", l.streamed)
	if err != nil {
		return fmt.Errorf("balance: %w", err)
	}
	l.streamed += len(stream)
	n := min(len(stream), len(l.rows)) // of the rest the rows are read next time
	l.streamed -= len(stream) - n
	if err := e2e.CheckSame(l.rows[:n], stream[:n]); err != nil {
		t.Violate("trial %d: stream: %v", t.Trials, err)
	}
	l.rows = append([]e2e.Archived(nil), l.rows[n:]...)
	return nil
}

// close notes what has not arrived although all is drained, and stops the service.
func (l *ledger) close(t *Tally) error {
	t.Lost += len(l.acked)
	t.Redelivered += len(l.archived)
	if n := len(l.rows); n > 0 {
		t.Violate("soak: %d records are not in the stream", n)
	}
	if _, err := l.w.Stop(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return l.w.Verify(context.Background())
}
