package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/mqttetl/mqttetl/internal/pipeline"
)

// notifier reports to the service manager (sd_notify(3)): READY=1 once, a
// STATUS text, WATCHDOG=1 while the pipeline is alive, STOPPING=1 at the end.
type notifier struct {
	pipeline *pipeline.Pipeline
	logger   *slog.Logger

	ready  bool
	failed bool
	text   string
	last   pipeline.Status // of the round before, for the rate
	at     time.Time
}

// Rounds are short until READY=1, for the start of other units waits for it.
const (
	startRound = 100 * time.Millisecond
	round      = time.Second
)

// Run reports until ctx ends. It returns at once where no service manager listens.
func (n *notifier) Run(ctx context.Context) error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.logger.Warn("the service manager's watchdog is not served", "error", err)
	}
	every := round
	if watchdog > 0 {
		every = min(round, watchdog/3)
	}
	ticker := time.NewTicker(min(startRound, every))
	defer ticker.Stop()
	for {
		wasReady := n.ready
		n.round(time.Now(), watchdog > 0)
		if n.ready && !wasReady {
			ticker.Reset(every)
		}
		select {
		case <-ctx.Done():
			n.send(daemon.SdNotifyStopping)
			return nil
		case <-ticker.C:
		}
	}
}

// round tells what there is to tell now.
func (n *notifier) round(now time.Time, watchdog bool) {
	if !n.ready && n.pipeline.Begun() {
		n.send(daemon.SdNotifyReady)
		n.ready = true
	}
	if watchdog && n.pipeline.Alive() {
		n.send(daemon.SdNotifyWatchdog)
	}
	if now.Sub(n.at) < round {
		return
	}
	s := n.pipeline.Status()
	rate := 0.0
	if !n.at.IsZero() {
		rate = float64(pipeline.Lag(n.last.Log.Last, s.Log.Last)) / now.Sub(n.at).Seconds()
	}
	if text := summary(&s, rate); text != n.text {
		n.send("STATUS=" + text)
		n.text = text
	}
	n.last, n.at = s, now
}

// send logs the first failure only: the next would be the same, every second.
func (n *notifier) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil && !n.failed {
		n.failed = true
		n.logger.Warn("the service manager cannot be notified", "error", err)
	}
}
