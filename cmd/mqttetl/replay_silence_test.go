package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// heard is standard error that tells when a line has come.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
	line chan string
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Write(p)
	select {
	case h.line <- h.text.String():
	default:
	}
	return len(p), nil
}

// A long silence of the recording is said before it begins, as is what shortens it.
func TestReplaySaysThatItWaits(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	path := archiveOf(t, []int64{start.UnixNano(), start.Add(time.Millisecond).UnixNano(), start.Add(90 * time.Minute).UnixNano()})
	for args, want := range map[string]string{
		"":             "mqttetl: the next record, of 2026-01-02T04:34:05Z, follows in 1h30m0s; --max-gap 10s shortens such silences\n",
		"--speed 10":   "mqttetl: the next record, of 2026-01-02T04:34:05Z, follows in 9m0s; --max-gap 10s shortens such silences\n",
		"--max-gap 2m": "mqttetl: the next record, of 2026-01-02T04:34:05Z, follows in 2m0s; --max-gap 10s shortens such silences\n",
	} {
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		errs := &heard{line: make(chan string, 1)}
		ended := make(chan int, 1)
		line := strings.Fields("replay --to - --archive " + path + " " + args)
		go func() { ended <- exec(ctx, line, nil, io.Discard, errs) }()
		select {
		case got := <-errs.line:
			if got != want {
				t.Errorf("%s: %q, want %q", args, got, want)
			}
		case code := <-ended:
			t.Errorf("%s: exit %d, nothing said", args, code)
			ended <- code
		}
		stop()
		<-ended
	}
	if r := call(t, "replay", "--to", "-", "--archive", path, "--max-gap", "10ms"); r.code != 0 || strings.Contains(r.err, "--max-gap") {
		t.Errorf("a short silence: exit %d: %s", r.code, r.err)
	}
}
