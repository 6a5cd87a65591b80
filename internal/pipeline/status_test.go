package pipeline

import (
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/sink/wal"
)

func TestPulse(t *testing.T) {
	start := time.Now()
	commit := start.Add(-time.Hour)
	idle := wal.Stats{Last: 5}
	busy := wal.Stats{Last: 5, Queued: 1, CommittingSince: commit}
	for name, c := range map[string]struct {
		then, now wal.Stats
		after     time.Duration
		want      bool
	}{
		"idle for long":            {idle, idle, time.Hour, true},
		"in a commit for short":    {busy, busy, StuckAfter - time.Second, true},
		"in a commit for long":     {busy, busy, StuckAfter, false},
		"in another commit":        {busy, wal.Stats{Last: 5, CommittingSince: start}, time.Hour, true},
		"work, but no commit":      {wal.Stats{Queued: 1}, wal.Stats{Queued: 2}, StuckAfter, false},
		"work, and records moved":  {wal.Stats{Queued: 1}, wal.Stats{Queued: 1, Last: 1}, time.Hour, true},
		"paused":                   {wal.Stats{Queued: 9, Paused: true}, wal.Stats{Queued: 9, Paused: true}, time.Hour, true},
		"first look, long at work": {wal.Stats{}, busy, time.Hour, true},
	} {
		var p pulse
		if !p.beats(c.then, start) {
			t.Errorf("%s: dead at the first look", name)
		}
		if got := p.beats(c.now, start.Add(c.after)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
