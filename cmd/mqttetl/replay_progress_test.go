package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/replay"
)

// A pause is told, and the rate is that of the time in which was played.
func TestReplayProgressWhilePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &replayRun{player: replay.NewPlayer(replay.Config{}), plan: replay.Plan{Selection: mqttetl.Selection{To: 100}}}
		time.Sleep(2 * time.Second)
		r.player.Confirmed(20, 20)
		r.player.Toggle()
		time.Sleep(time.Hour)
		if text := r.text(time.Hour); !strings.HasPrefix(text, "paused") || !strings.HasSuffix(text, " 10/s") {
			t.Errorf("paused for an hour: %s", text)
		}
		r.player.Toggle()
		time.Sleep(2 * time.Second)
		if text := r.text(time.Hour); strings.Contains(text, "paused") || !strings.HasSuffix(text, " 5/s") {
			t.Errorf("it goes on: %s", text)
		}
	})
}

// What an interrupted run has played says nothing of how fast this one is.
func TestReplayTimeLeft(t *testing.T) {
	for _, c := range []struct {
		begun, at, to mqttetl.Seq
		want          string
	}{
		{0, 10, 100, "  ETA 1m30s"}, {50, 60, 100, "  ETA 40s"}, {50, 100, 100, "  ETA 0s"}, {50, 50, 100, ""}, {50, 0, 100, ""}, {0, 10, 5, "  ETA 0s"},
	} {
		if got := timeLeft(10*time.Second, c.begun, c.at, c.to); got != c.want {
			t.Errorf("at %d of %d, begun behind %d: %q, want %q", c.at, c.to, c.begun, got, c.want)
		}
	}
}
