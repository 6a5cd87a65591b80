package reporters

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/mqttetl/mqttetl/internal/pipeline"
)

// Notifier reports to the service manager (sd_notify(3)): READY=1 once, a
// STATUS text, WATCHDOG=1 while the pipeline is alive, STOPPING=1 at the end.
type Notifier struct {
	pipeline *pipeline.Pipeline
	logger   *slog.Logger

	ready  bool
	failed bool
	text   string
	last   pipeline.Status // of the round before, for the rate
	at     time.Time
}

// NewNotifier reports on p.
func NewNotifier(p *pipeline.Pipeline, logger *slog.Logger) *Notifier {
	return &Notifier{pipeline: p, logger: logger}
}

// Rounds are short until READY=1, for the start of other units waits for it. After it,
// each is a few wake-ups of a service that may be idle.
const (
	startRound = 100 * time.Millisecond
	round      = 5 * time.Second
)

// Run reports until ctx ends. It returns at once where no service manager listens.
func (n *Notifier) Run(ctx context.Context) error {
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
func (n *Notifier) round(now time.Time, watchdog bool) {
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
func (n *Notifier) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil && !n.failed {
		n.failed = true
		n.logger.Warn("the service manager cannot be notified", "error", err)
	}
}

// summary is a status in a few words, with the rate of the last interval.
func summary(s *pipeline.Status, rate float64) string {
	text := strconv.FormatFloat(rate, 'f', 0, 64) + " msg/s"
	if s.Log.Paused {
		text += ", paused: log is full"
	}
	if s.Archive != nil {
		text += fmt.Sprintf(", archive %d behind", s.Archive.Lag)
	}
	if s.NATS != nil {
		text += fmt.Sprintf(", nats %d behind", s.NATS.Lag)
	}
	if s.NATS != nil && !s.NATS.Connected {
		text += ", nats not connected"
		if s.NATS.Error != "" {
			text += ": " + s.NATS.Error
		}
	}
	return text
}
