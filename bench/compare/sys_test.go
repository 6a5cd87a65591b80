package compare

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/test/servers"
)

// Of a broker that seldom tells its counters the measurement stands without.
func TestSeldomCounters(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]bool{"started": false, "given": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, `^mqtt/qos1$`)
			cfg.mosquitto = "sys_interval 60\n"
			if given {
				m, err := servers.StartMosquitto(t.TempDir(), cfg.mosquitto)
				if err != nil {
					t.Fatal(err)
				}
				defer m.Kill()
				cfg.MQTT = m.URL
			}
			report := compare(t, cfg)
			c, r := one(t, report)
			if c.Error != "" || c.Disagrees || r.Delivered == 0 || r.Delivered != r.Expected || len(r.Counters) > 0 {
				t.Errorf("error %q, disagrees %v, %d delivered of %d, counters %v", c.Error, c.Disagrees, r.Delivered, r.Expected, r.Counters)
			}
			if notes := strings.Join(report.Notes, "\n"); strings.Count(notes, "not compared") != 1 {
				t.Errorf("notes %q", notes)
			}
		})
	}
}

// What is retained is no update: it would come to any new subscriber at once.
func TestRetainedIsNoUpdate(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "sys_interval 60\n")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	broker, err := url.Parse(m.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w, err := watchSys(ctx, brokerAt{URL: broker}, "watch")
	if err != nil {
		t.Fatal(err)
	}
	defer w.c.Close()
	for w.broker() == "" && ctx.Err() == nil { // retained as well
		backoff.Pause(ctx, time.Millisecond)
	}
	if _, ticks, _ := w.state(); ticks != 0 || w.broker() == "" {
		t.Errorf("version %q, %d updates", w.broker(), ticks)
	}
	if err := w.receive(&client.Received{Message: mqttetl.Message{Topic: []byte(sysUptime)}}); err != nil {
		t.Fatal(err)
	}
	if _, ticks, _ := w.state(); ticks != 1 {
		t.Errorf("%d updates, want 1", ticks)
	}
}
