package batch

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// ending is a context that has ended, of which those made of it learn later, as
// they do for a moment of any.
type ending struct{ context.Context }

func (ending) Err() error { return context.Canceled }

// closedLog closes while it is read.
type closedLog struct {
	*memoryLog
}

func (l closedLog) Next(context.Context, int) ([]mqttetl.Record, error) {
	return nil, mqttetl.ErrClosed
}

// A log that ends a moment before the batcher has learned that it is to end is no
// failure: both are told at the same time.
func TestLogClosesWithTheProgram(t *testing.T) {
	b := New(Config{Name: "a.db", Open: fileAt(filepath.Join(t.TempDir(), "a.db"))}, closedLog{memoryLog: newMemoryLog()})
	if recs, err := b.next(ending{t.Context()}, idle, 1); err != nil || recs != nil {
		t.Errorf("%v, %v", recs, err)
	}
	if _, err := b.next(t.Context(), idle, 1); err == nil {
		t.Error("a log that closes by itself is a failure, and is not told")
	}
}
