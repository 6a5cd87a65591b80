package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttetl/mqttetl"
)

// When the log ends, its consumers can read no more. What ended it is why the pipeline
// ends, also if a consumer is the first to say so.
func TestWhatEndedTheLogIsTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drive := errors.New("the drive is gone")
		p := New(Options{})
		p.Add(Log, "log", Func(func(context.Context) error {
			time.Sleep(time.Second)
			return drive
		}))
		p.Add(Consumers, "archive", Func(func(context.Context) error {
			return fmt.Errorf("read log: %w", mqttetl.ErrClosed)
		}))
		if err := p.Run(t.Context()); !errors.Is(err, drive) {
			t.Errorf("%v, want %v", err, drive)
		}
	})
}
