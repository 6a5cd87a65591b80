package wal

import (
	"context"
	"errors"
	"testing"
)

// A program that is told to stop ends its log and the log's readers at once:
// to them it is a stop, not a log that has gone away.
func TestStopIsNoError(t *testing.T) {
	l, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	l.Run(ctx)
	for range 50 { // a select takes any case that is ready
		if err := l.wait(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Fatalf("wait: %v", err)
		}
	}
}
