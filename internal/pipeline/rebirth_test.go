package pipeline

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/prometheus/client_golang/prometheus"
)

// Who is asked, and how often, whatever strangers send.
func TestRebirthIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 5, 20, 0, 0, 0, time.UTC)
	cfg := &config.Config{Sources: []config.Source{{Name: "plant"}}, Routes: []transform.Route{{Rebirth: time.Minute}}}
	r := newRebirths(cfg, slog.New(slog.DiscardHandler), newAsked(prometheus.NewRegistry()))
	r.now = func() time.Time { return now }
	unborn := func(source, node string, at time.Time) transform.Unborn {
		return transform.Unborn{Source: source, Group: "g", Node: node, Time: at.UnixNano(), Every: time.Minute}
	}
	expect := func(what string, want int) {
		t.Helper()
		if got := len(r.queue); got != want {
			t.Errorf("%s: %d nodes are to be asked, want %d", what, got, want)
		}
		for len(r.queue) > 0 {
			<-r.queue
		}
	}
	r.ask([]transform.Unborn{unborn("plant", "n", now), unborn("plant", "n", now), unborn("plant", "m", now)})
	expect("two nodes, one of them twice", 2)
	now = now.Add(59 * time.Second)
	r.ask([]transform.Unborn{unborn("plant", "n", now)})
	expect("too early", 0)
	now = now.Add(time.Second)
	r.ask([]transform.Unborn{unborn("plant", "n", now)})
	expect("in time", 1)
	r.ask([]transform.Unborn{unborn("plant", "old", now.Add(-61*time.Second)), unborn("import", "n", now)})
	expect("history, and no source of ours", 0)
	for i := range 3 * rebirthNodes {
		r.ask([]transform.Unborn{unborn("plant", fmt.Sprint(i), now)})
	}
	if expect("many", rebirthQueue); len(r.next) > rebirthNodes {
		t.Errorf("%d nodes are remembered", len(r.next))
	}
	for i := range 3 * rebirthNodes {
		if r.ask([]transform.Unborn{unborn("plant", fmt.Sprint("x", i), now)}); len(r.queue) == rebirthQueue {
			expect("", rebirthQueue)
		}
	}
	if len(r.next) != rebirthNodes {
		t.Errorf("%d nodes are remembered", len(r.next))
	}
	expect("the last", len(r.queue))
	now = now.Add(time.Hour)
	r.ask([]transform.Unborn{unborn("plant", "y", now)})
	if expect("an hour later", 1); len(r.next) != 1 {
		t.Errorf("%d nodes are remembered", len(r.next))
	}
	r.later([]transform.Unborn{unborn("plant", "y", now)})
	now = now.Add(rebirthRetry)
	r.ask([]transform.Unborn{unborn("plant", "y", now)})
	expect("after a failure", 1)
	var none *rebirths
	none.ask([]transform.Unborn{unborn("plant", "n", now)})
	if newRebirths(&config.Config{Routes: make([]transform.Route, 1)}, nil, nil) != nil {
		t.Error("nodes are asked although no route says so")
	}
}
