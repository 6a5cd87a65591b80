package forward

import (
	"context"
	"log/slog"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/news"
)

const (
	retryFirst = 100 * time.Millisecond
	retryMax   = 2 * time.Second // as towards brokers: one that is back is in use within it
	// provenAfter is how long a connection lasts on which nothing had to be sent
	// before trouble counts as over: a message that is refused shows that it is not.
	provenAfter = time.Second
)

// newBackoff is the pause between attempts.
func newBackoff() backoff.Backoff { return backoff.Backoff{First: retryFirst, Most: retryMax} }

// trouble states what is wrong, and when it is over.
type trouble struct {
	log *slog.Logger
	news.Trouble
	often news.Kinds
}

// state says err if it is worth a line.
func (t *trouble) state(err error) {
	l := t.Failed(err.Error())
	if !l.Say {
		return
	}
	args := []any{"error", err, "since", l.Since.UTC().Format(time.RFC3339), "attempts", l.Times}
	if hint := mqttetl.Hint(err); hint != "" {
		args = append(args, "hint", hint)
	}
	t.log.Warn("not forwarding to NATS, trying again", args...)
}

// say logs what may come again with each record or attempt: once in news.Every, with how
// often it came since.
func (t *trouble) say(level slog.Level, text string, args ...any) {
	n := t.often.Count(text)
	if n == 0 {
		return
	}
	if n > 1 {
		args = append(args, "times", n)
	}
	t.log.Log(context.Background(), level, text, args...)
}

// over ends the trouble.
func (t *trouble) over() {
	if l := t.Over(); l.Say {
		t.log.Info("forwarding to NATS again", "after", l.For.Round(time.Millisecond))
	}
}
