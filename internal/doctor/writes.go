package doctor

import (
	"context"
	"fmt"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mqttetl/mqttetl/internal/backoff"
)

// writesTime is for how long it is measured what the running service writes: an
// archive that commits once a second has committed several times.
const writesTime = 5 * time.Second

// told are the metrics of the running service, and when they were asked for.
type told struct {
	at       time.Time
	families map[string]*dto.MetricFamily
}

// sum adds what a metric has counted, whatever its labels are.
func (t told) sum(name string) (sum float64) {
	for _, m := range t.families[name].GetMetric() {
		sum += m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return sum
}

// service asks the running service for its metrics; there are none if it does not answer.
func (d *doctor) service(ctx context.Context) told {
	t := told{at: time.Now()}
	if d.Metrics == nil {
		return t
	}
	answer, err := d.Metrics(ctx)
	if err != nil {
		return t
	}
	defer answer.Close()
	text := expfmt.NewTextParser(model.UTF8Validation)
	t.families, _ = text.TextToMetricFamilies(answer) // what was read before an error counts
	return t
}

// The metrics that say what a service writes, and for what.
const (
	receivedTotal = "mqttetl_received_messages_total"
	commitsTotal  = "mqttetl_log_commit_seconds"
	writtenTotal  = "mqttetl_disk_written_bytes_total"
)

// writes says what the running service has written since before.
func (d *doctor) writes(ctx context.Context, before told) {
	const part, check = "service", "writes"
	if len(before.families) == 0 {
		d.add(part, check, OK, "run doctor beside the service; it asks http.listen", "not measured")
		return
	}
	if !backoff.Pause(ctx, writesTime-time.Since(before.at)) {
		return
	}
	after := d.service(ctx)
	took := after.at.Sub(before.at).Seconds()
	if len(after.families) == 0 {
		d.add(part, check, Warn, "", "the service has ended meanwhile")
		return
	}
	rateOf := func(name string) float64 { return max(0, after.sum(name)-before.sum(name)) / took }
	commits := rateOf(commitsTotal)
	advice := ""
	if next, saved := larger(d.cfg.Log.CommitInterval, commits); next > 0 {
		advice = fmt.Sprintf("log.commit_interval: %v would save about %s a day; a PUBACK then takes up to %v", next, gigabytes(saved*commitBytes), next)
	}
	d.add(part, check, OK, advice, "%.1f messages and %.1f commits a second, %.0f kB/s: %s a day, measured for %.0f s",
		rateOf(receivedTotal), commits, rateOf(writtenTotal)/1e3, gigabytes(rateOf(writtenTotal)), took)
}

// gigabytes is what so many bytes a second are a day.
func gigabytes(bytes float64) string { return fmt.Sprintf("%.1f GB", bytes*86400/1e9) }

// commitBytes is what a commit of the log writes at least: four pages and a meta page.
const commitBytes = 5 * 4096

// intervals are those that are proposed.
var intervals = []time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
}

// larger is the next larger interval that saves a tenth of so many commits a
// second, and how many it saves. Those that are more than the interval allows are
// made for senders that wait, and stay. 0: there is none.
func larger(interval time.Duration, commits float64) (next time.Duration, saved float64) {
	spaced := commits
	if interval > 0 {
		spaced = min(commits, 1/interval.Seconds())
	}
	for _, next := range intervals {
		if saved := spaced - 1/next.Seconds(); next > interval && saved > commits/10 {
			return next, saved
		}
	}
	return 0, 0
}
