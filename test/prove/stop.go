package prove

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/test/service"
)

const (
	stopsATrial = 10
	stopLimit   = 2 * time.Second // a second, on a machine that has nothing else to do
)

func stopCampaign() *Campaign {
	return &Campaign{
		Name: "stop",
		Injects: fmt.Sprintf("SIGTERM under load at random moments, %d times a trial, also while connecting; QoS 1 and 2, over TCP, TLS, WebSocket and both: "+
			"a message that is there twice counts as much as one that is lost", stopsATrial),
		Short: 4, Long: 30,
		Run: func(ctx context.Context, e Env) (Tally, error) { return eachTrial(ctx, e, stopTrial) },
		Controls: []Control{
			{Name: "the log stopped before the sources", Replace: map[string][2]string{"internal/pipeline/run.go": {
				"for layer := layers - 1; layer >= 0; layer-- {", "for _, layer := range []Layer{Reporters, Log, Sources, Consumers} {",
			}}, Setting: only("mqtt"), Trials: 10},
			{Name: "connections closed without waiting for the commit", Replace: map[string][2]string{"ingest/session/quiet.go": {
				"committed && !c.window.empty()", "false",
			}}, Setting: only("mqtt"), Trials: 10},
		},
	}
}

// stopTrial stops the service again and again while a publisher sends.
func stopTrial(ctx context.Context, e Env, dir string, rnd *rand.Rand, t *Tally) error {
	scheme := []string{"mqtt", "mqtts", "ws", "wss"}[rnd.IntN(4)]
	s := setup{dir: dir, settings: service.Settings{QoS: 1 + rnd.IntN(2)}}
	if e.Only != "" {
		scheme, s.settings.QoS = e.Only, 1
	}
	trial := fmt.Sprintf("trial %d (seed %d), %s, QoS %d", t.Trials, e.Seed+uint64(t.Trials), scheme, s.settings.QoS)
	certs := filepath.Join(dir, "certs")
	if err := newCertificates(certs); err != nil {
		return err
	}
	if err := s.listen(scheme, certs); err != nil {
		return err
	}
	w, err := newWorld(e.Bin, s)
	if err != nil {
		return err
	}
	defer w.close()
	w.pub.Workers = 16
	if err := w.start(ctx); err != nil {
		return err
	}
	publishing := w.publish(ctx)
	defer publishing()
	for range stopsATrial {
		if err := w.stopAtRandom(ctx, rnd, t, trial); err != nil {
			return err
		}
	}
	publishing()
	again := t.Redelivered
	if err := w.account(ctx, t, trial, false); err != nil {
		return err
	}
	w.countStops(t, trial, t.Redelivered-again)
	return nil
}

// countStops notes the further records that stops have made, and what the
// service has said of them.
func (w *world) countStops(t *Tally, trial string, again int) {
	tooSlow := false
	for line := range strings.Lines(w.Output()) {
		switch {
		case strings.Contains(line, "stopped before the log had stored everything"):
			tooSlow = true // by the drive: what it could not store in time comes again, and this says so
		case strings.Contains(line, "append to log"), strings.Contains(line, "no connection"), strings.Contains(line, "a part failed"):
			t.Violate("%s: it says %s", trial, line)
		}
	}
	if again > 0 && !tooSlow {
		t.Violate("%s: %d messages are further records after %d stops", trial, again, stopsATrial)
	}
}

// stopAtRandom stops the service at a random moment, of its work or of its start,
// and starts it again.
func (w *world) stopAtRandom(ctx context.Context, rnd *rand.Rand, t *Tally, trial string) error {
	if rnd.IntN(4) > 0 {
		if _, err := w.Await(ctx, "ready", func(s service.Status) bool { return s.Ready }); err != nil {
			return err
		}
		if err := w.more(ctx, rnd.IntN(1500)); err != nil {
			return err
		}
	}
	time.Sleep(time.Duration(rnd.IntN(20_000)) * time.Microsecond) // the moment itself, not a wait for anything
	if took, err := w.Stop(); err != nil {
		t.Violate("%s: SIGTERM: %v; it wrote: %s", trial, err, tail(w.Output(), 1000))
	} else if took > stopLimit {
		t.Violate("%s: SIGTERM took %v", trial, took.Round(time.Millisecond))
	}
	if err := w.Start(); err != nil {
		return err
	}
	_, err := w.Await(ctx, "runs", func(service.Status) bool { return true })
	return err
}
