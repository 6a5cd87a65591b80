package wal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl"
)

// roomRetry is how often a paused log tries again by itself. Progress of a
// consumer makes it try at once.
const roomRetry = 250 * time.Millisecond

// fullError says why there is no room. It is mqttetl.ErrFull.
type fullError struct {
	why   error
	pages bool // LMDB has too few free pages
}

func (e *fullError) Error() string        { return fmt.Sprintf("%v: %v", mqttetl.ErrFull, e.why) }
func (e *fullError) Unwrap() error        { return e.why }
func (e *fullError) Is(target error) bool { return target == mqttetl.ErrFull }

func asFull(err error) *fullError {
	var full *fullError
	errors.As(err, &full)
	return full
}

// pause notes that appends wait for room, once.
func (l *Log) pause(why *fullError) {
	l.state.Lock()
	l.paused = why.why.Error()
	if l.heldBy != "" {
		l.paused += "; " + l.heldBy
	}
	l.state.Unlock()
	l.metrics.Paused.Set(1)
	if line := l.full.Failed("full"); line.Say {
		l.log.Warn("log is full: nothing is acknowledged until there is room", "reason", why.why, "waits_for", l.slowest(), "since", line.Since, "attempts", line.Times)
	}
}

// slowest are the consumers that the log cannot be trimmed past, separated by blanks.
func (l *Log) slowest() string {
	var names []string
	least := ^mqttetl.Seq(0)
	for _, c := range l.consumers {
		at := c.position()
		if at < least {
			least, names = at, nil
		}
		if at == least {
			names = append(names, c.name)
		}
	}
	return strings.Join(names, " ")
}

// resume ends the pause, if there is one.
func (l *Log) resume() {
	l.state.Lock()
	was := l.paused
	l.paused = ""
	l.state.Unlock()
	if was == "" {
		return
	}
	l.metrics.Paused.Set(0)
	if line := l.full.Over(); line.Say {
		l.log.Info("log has room again", "after", line.For.Round(time.Millisecond))
	}
}

// waitForRoom waits until another attempt makes sense.
func (l *Log) waitForRoom(ctx context.Context) error {
	retry := time.NewTimer(roomRetry)
	defer retry.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("append to log: %w", mqttetl.ErrClosed)
	case <-l.wake:
	case <-retry.C:
	}
	l.watchReaders()
	return nil
}

// forgetDeadReaders clears the slots of processes that were killed while they
// read the log, such as an interrupted verify: no page that was freed since
// could be reused otherwise. An error is one of the lock file; the next commit
// will meet it too.
func (l *Log) forgetDeadReaders() {
	if n, err := l.env.ReaderCheck(); err != nil {
		l.log.Warn("cannot look for dead readers of the log", "error", err)
	} else if n > 0 {
		l.log.Info("cleared the slots of dead readers of the log", "readers", n)
	}
}
