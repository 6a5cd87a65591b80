//go:build !small

package main

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/histogram"
)

// display shows a running demo: what it is and, on a terminal, a line that
// changes.
type display struct {
	w    io.Writer
	live bool // draw the line

	began time.Time
	at    time.Time
	last  mqttetl.Seq
	times histogram.Buckets
}

// intro tells what runs and how to look at it from another terminal.
func (v *display) intro(d *demo, dir string, f demoFlags) {
	v.began = time.Now()
	v.at, v.last = v.began, d.pipeline.Status().Log.Last
	v.times = commitTimes(d.registry)
	fmt.Fprintf(v.w, "%s: %d devices, %d messages a second, in %s\n", bold(v.w, "mqttetl demo"), f.devices, f.rate, dir)
	fmt.Fprintf(v.w, "look at it:\n")
	fmt.Fprintf(v.w, "  sqlite3 %s 'select time, topic, payload from msg limit 5'\n", d.cfg.Archive.Path)
	fmt.Fprintf(v.w, "  nats --server %s sub '%s.>'\n", d.cfg.NATS.URL, d.cfg.NATS.SubjectPrefix)
	fmt.Fprintf(v.w, "  mosquitto_sub -L '%s/#'\n", d.broker.URL)
	fmt.Fprintf(v.w, "  curl http://%s/status\n", d.address)
}

// tick shows the last second.
func (v *display) tick(d *demo) {
	if !v.live {
		return
	}
	now, s, times := time.Now(), d.pipeline.Status(), commitTimes(d.registry)
	rate := float64(s.Log.Last-v.last) / now.Sub(v.at).Seconds()
	recent := times.Since(v.times)
	line := fmt.Sprintf("%4.0f s  %6.0f msg/s  commit p50 %s p99 %s  archive %d behind  nats %d behind",
		now.Sub(v.began).Seconds(), rate, milliseconds(recent.Quantile(0.5)), milliseconds(recent.Quantile(0.99)), s.Archive.Lag, s.NATS.Lag)
	fmt.Fprint(v.w, "\r\x1b[K"+line)
	v.at, v.last, v.times = now, s.Log.Last, times
}

func (v *display) draining() {
	if v.live {
		fmt.Fprintln(v.w)
	}
}

// printResult prints the account, what others have published, and where the files are if they stay.
func printResult(w io.Writer, a account, d *demo, kept string) error {
	text := bold(w, a.String()) + "\n"
	if a.others > 0 {
		text += fmt.Sprintf("of other clients %d, archived and forwarded with them\n", a.others)
	}
	if kept != "" {
		text += fmt.Sprintf("kept: log %s, archive %s\n", d.cfg.Log.Dir, d.cfg.Archive.Path)
	}
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

func milliseconds(seconds float64) string {
	if math.IsNaN(seconds) {
		return "-"
	}
	return fmt.Sprintf("%.2g ms", seconds*1e3)
}

// commitTimes reads the histogram of the log's commit times.
func commitTimes(g prometheus.Gatherer) histogram.Buckets {
	families, err := g.Gather()
	if err != nil {
		return nil
	}
	for _, f := range families {
		if f.GetName() == "mqttetl_log_commit_seconds" {
			return histogram.Of(f)
		}
	}
	return nil
}
