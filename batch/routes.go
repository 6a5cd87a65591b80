package batch

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/news"
	"github.com/mqttetl/mqttetl/sink/store"
)

// options say what the archive keeps beside messages.
func (b *Batcher) options() store.Options {
	return store.Options{Tables: b.Routes.Tables(), Readings: b.Readings, Latest: b.Latest, Births: b.Routes.HasBirths(), Again: b.used}
}

// router applies the routes during one session. A new session has a new one,
// which remembers what the archive does.
type router struct {
	*transform.Applier
	jq      bool
	letters []mqttetl.DeadLetter
	counted []transform.Stats            // those that are in the metrics
	dead    int                          // dead letters of the open transaction
	failed  map[string]transform.Failure // the first of each route in the open transaction
	noted   []transform.Note             // of the open transaction
}

// router returns nil where there is nothing to apply.
func (b *Batcher) router(a Archive) (*router, error) {
	if len(b.Routes.Routes()) == 0 && !b.Readings {
		return nil, nil
	}
	o := transform.Options{Readings: b.Readings, ReadingsText: b.ReadingsText, TimeLimit: b.routeLimit}
	if b.Routes.HasBirths() {
		o.Births = a
	}
	applier, err := b.Routes.Applier(o)
	if err != nil {
		return nil, err
	}
	return &router{Applier: applier, jq: b.Routes.HasJQ(), counted: applier.Stats(), failed: map[string]transform.Failure{}}, nil
}

// piece is how many records go into one statement: enough to make its cost
// small, and so few that what the routes have made of them stays in the cache.
const piece = 1024

// append archives records with what the routes make of them, and says how many
// it took: fewer if the routes are so slow that the transaction is due.
func (b *Batcher) append(ctx context.Context, a Archive, r *router, records []mqttetl.Record, due time.Time) (n int, err error) {
	if r == nil {
		return len(records), a.Append(records)
	}
	r.Ahead(records)
	records = records[:min(piece, len(records))]
	r.Reset()
	for n < len(records) {
		r.Apply(&records[n])
		if n++; r.Full() || (r.jq || n%64 == 0) && (time.Now().After(due) || ctx.Err() != nil) {
			break
		}
	}
	if err := r.Err(); err != nil {
		return 0, err
	}
	if err := a.Append(records[:n]); err != nil {
		return 0, err
	}
	if b.Unborn != nil && len(r.Unborn) > 0 {
		b.Unborn(r.Unborn)
	}
	return n, r.insert(a)
}

// insert archives what the routes have made.
func (r *router) insert(a Archive) error {
	r.noted = append(r.noted, r.Notes...)
	r.letters = r.letters[:0]
	for i := range r.Failures {
		f := &r.Failures[i]
		if !f.Nulls {
			r.letters = append(r.letters, f.DeadLetter())
		}
		if _, ok := r.failed[f.Route]; !ok {
			r.failed[f.Route] = *f
		}
	}
	r.dead += len(r.letters)
	return a.Keep(&store.Made{Rows: r.Rows, Readings: r.Readings, Births: r.Births(), Letters: r.letters})
}

// routed counts what is in the archive now, and says so if routes fail.
func (b *Batcher) routed(r *router) {
	if r == nil {
		return
	}
	now := r.Stats()
	for i, s := range now {
		was := r.counted[i]
		b.Metrics.routeMended.WithLabelValues(s.Route).Add(float64(s.Mended - was.Mended))
		if s.Route == transform.ReadingsRoute {
			b.Metrics.readingsSkipped.Add(float64(s.Skipped - was.Skipped))
			continue
		}
		b.Metrics.unsetTimes.WithLabelValues(s.Route).Add(float64(s.Unset - was.Unset))
		b.Metrics.routeRows.WithLabelValues(s.Route).Add(float64(s.Rows - was.Rows))
		b.Metrics.routeErrors.WithLabelValues(s.Route).Add(float64(s.Errors - was.Errors))
		b.Metrics.routeSeconds.WithLabelValues(s.Route).Add((s.Time - was.Time).Seconds())
		b.Metrics.seqGaps.WithLabelValues(s.Route).Add(float64(s.SeqGaps - was.SeqGaps))
	}
	r.counted = now
	b.Metrics.deadLetters.Add(float64(r.dead))
	r.dead = 0
	b.sayNotes(r)
	for _, f := range r.failed {
		if b.failing[f.Route] == nil {
			b.failing[f.Route] = &news.Seldom{}
		}
		if b.failing[f.Route].Count() == 0 {
			continue
		}
		b.Logger.Log(context.Background(), slog.LevelWarn, "a route cannot use some messages; mqttetl dead-letters lists them, mqttetl_route_errors_total counts them",
			"route", f.Route, "seq", f.Seq, "reason", f.DeadLetter().Reason, "on_error", choose(f.Nulls, transform.OnErrorNull, transform.OnErrorDeadLetter))
	}
	clear(r.failed)
}

// notes are what is said of them, and by which metric they are counted.
var notes = map[transform.Kind]string{
	transform.Mended:    "a route uses messages in which something is wrong, and leaves that out; mqttetl_route_mended_total counts them",
	transform.UnsetTime: "a route takes the receipt for the time of a device whose clock is not set; mqttetl_route_unset_times_total counts them",
	transform.Skipped:   "readings cannot take some values; mqttetl_readings_skipped_total counts them",
}

// sayNotes says each kind once a route.
func (b *Batcher) sayNotes(r *router) {
	for _, n := range r.noted {
		key := n.Route + notes[n.Kind]
		if !b.saidNotes[key] {
			b.saidNotes[key] = true
			b.Logger.Warn(notes[n.Kind], "route", n.Route, "seq", n.Seq, "first", n.Text)
		}
	}
	r.noted = r.noted[:0]
}

func choose(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

// routeMetrics are the history of the routes.
type routeMetrics struct {
	routeRows, routeErrors, routeSeconds, seqGaps, routeMended, unsetTimes *prometheus.CounterVec
	deadLetters, readingsSkipped                                           prometheus.Counter
}

func newRouteMetrics() routeMetrics {
	by := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"route"})
	}
	return routeMetrics{
		routeRows:    by("mqttetl_route_rows_total", "Rows of typed tables that a route has committed."),
		routeErrors:  by("mqttetl_route_errors_total", "Messages that a route could not use, or not all of, whatever its on_error."),
		routeSeconds: by("mqttetl_route_seconds_total", "Time spent in a route. Of routes without jq one message in 64 is timed."),
		seqGaps:      by("mqttetl_sparkplug_seq_gaps_total", "Times that the seq of a Sparkplug node did not follow its predecessor."),
		routeMended:  by("mqttetl_route_mended_total", "Messages that a route, or readings, could use although something in them was wrong: not a number, not UTF-8, cut off."),
		unsetTimes:   by("mqttetl_route_unset_times_total", "Messages whose time was that of a clock which is not set, so that the receipt counts."),
		readingsSkipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mqttetl_readings_skipped_total",
			Help: "Values that readings could not take: text that is a number, numbers beyond REAL; and messages that begin as JSON and are none.",
		}),
		deadLetters: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "mqttetl_dead_letters_total",
			Help:        "Records that a stage could not process and will not try again.",
			ConstLabels: prometheus.Labels{"stage": "transform"},
		}),
	}
}
