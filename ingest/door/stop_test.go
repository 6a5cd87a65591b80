package door

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// refusals counts those of one reason.
func refusals(t *testing.T, d *Door, reason string) float64 {
	t.Helper()
	var m dto.Metric
	if err := d.cfg.Metrics.refusals.With(prometheus.Labels{"source": d.cfg.Name, "reason": reason}).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.Counter.GetValue()
}

func withWill(l *wire.Login) { l.Will = &wire.WillMessage{Topic: "will", QoS: 1} }

// TestStop: a door that closes waits for the commit, acknowledges it, says goodbye,
// and sends no will: of the clients of every version.
func TestStop(t *testing.T) {
	for _, c := range []struct {
		version byte
		want    string
	}{{v311, "40020007"}, {v5, "40020007" + "e0018b"}} {
		log := newFakeLog()
		d, stop := openAndStop(t, log, Config{})
		r, _ := connected(t, d, login(c.version, "a", withWill))
		log.hold(true)
		r.send(message(2, "t", 7, c.version == v5, "x"))
		await(t, "the batch", func() bool { return log.pending() == 1 })
		stop()
		await(t, "the listener is closed", func() bool {
			nc, err := net.Dial("tcp", d.Addr().String())
			if err == nil {
				_ = nc.Close()
			}
			return err != nil
		})
		time.AfterFunc(50*time.Millisecond, func() { log.hold(false) }) // well within windDown
		if got := r.rest(); got != c.want {
			t.Errorf("version %d: the client gets %s, want %s", c.version, got, c.want)
		}
		_ = r.Close()
		await(t, "no client", func() bool { return d.Stats().Clients == 0 })
		d.tasks.Wait()
		if got := strings.Join(log.texts(), " "); got != "t=x" {
			t.Errorf("version %d: records %s", c.version, got)
		}
	}
}

// TestReasons: a connection that is ended from elsewhere than where it is read has
// its reason counted.
func TestReasons(t *testing.T) {
	t.Parallel()
	d := open(t, newFakeLog(), Config{})
	r, _ := connected(t, d, login(v5, "a", func(l *wire.Login) { l.KeepAlive = 1 }))
	r.rest()
	await(t, "keepalive is counted", func() bool { return refusals(t, d, forKeepAlive) == 1 })
}
