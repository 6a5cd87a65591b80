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
