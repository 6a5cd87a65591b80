package forward

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
)

const (
	retryFirst = 100 * time.Millisecond
	retryMax   = 2 * time.Second // as towards brokers: one that is back is in use within it
	// repeatAfter is how often the same trouble is stated again.
	repeatAfter = 5 * time.Minute
)

// newBackoff is the pause between attempts.
func newBackoff() backoff.Backoff { return backoff.Backoff{First: retryFirst, Most: retryMax} }

// trouble states what is wrong when it begins and then rarely, and when it is
// over.
type trouble struct {
	log *slog.Logger

	mu    sync.Mutex
	what  string
	since time.Time
	said  time.Time
}

// state records err and says it if it is news.
func (t *trouble) state(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.since.IsZero() {
		t.since = now
	}
	// A sequence number or a port in it does not make it news.
	what := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, err.Error())
	if what == t.what && now.Sub(t.said) < repeatAfter {
		return
	}
	t.what, t.said = what, now
	args := []any{"error", err, "since", t.since.UTC().Format(time.RFC3339)}
	if hint := mqttetl.Hint(err); hint != "" {
		args = append(args, "hint", hint)
	}
	t.log.Warn("not forwarding to NATS, trying again", args...)
}

// over ends the trouble.
func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		return
	}
	t.log.Info("forwarding to NATS again", "after", time.Since(t.since).Round(time.Millisecond))
	t.what, t.since, t.said = "", time.Time{}, time.Time{}
}
