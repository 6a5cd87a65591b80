package batch

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
)

// Metrics are the history of a Batcher.
type Metrics struct {
	archived       prometheus.Counter
	errors         prometheus.Counter
	missing        prometheus.Counter
	aside          prometheus.Counter
	wal            prometheus.Gauge
	walKept        prometheus.Counter
	commitSeconds  prometheus.Histogram
	commitMessages prometheus.Histogram
	routeMetrics
}

// NewMetrics makes the metrics and registers them, unless reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		archived: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mqttetl_archived_messages_total",
			Help: "Records committed to the archive.",
		}),
		// Every consumer registers this name, with its own label and the same help.
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "mqttetl_consumer_errors_total",
			Help:        "Attempts of a consumer that ended with an error and were made again.",
			ConstLabels: prometheus.Labels{"consumer": "archive"},
		}),
		missing: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "mqttetl_missing_messages_total",
			Help:        "Records that the log no longer held when a consumer came to them.",
			ConstLabels: prometheus.Labels{"consumer": "archive"},
		}),
		aside: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "mqttetl_dead_letters_total",
			Help:        "Records that a stage could not process and will not try again.",
			ConstLabels: prometheus.Labels{"stage": mqttetl.StageArchive},
		}),
		wal: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mqttetl_archive_wal_bytes",
			Help: "Bytes of the file of the archive's write-ahead log.",
		}),
		walKept: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mqttetl_archive_wal_kept_total",
			Help: "How often the archive's write-ahead log was larger than 64 MiB and a reader kept it from being emptied.",
		}),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "mqttetl_archive_commit_seconds",
			Help:    "Time of the commit of one archive transaction.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9), // 0.1 ms .. 6.5 s
		}),
		commitMessages: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "mqttetl_archive_commit_messages",
			Help:    "Messages in one archive transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 10),
		}),
		routeMetrics: newRouteMetrics(),
	}
	if reg != nil {
		reg.MustRegister(m.archived, m.errors, m.missing, m.aside, m.wal, m.walKept, m.commitSeconds, m.commitMessages,
			m.routeRows, m.routeErrors, m.routeSeconds, m.seqGaps, m.deadLetters, m.routeMended, m.unsetTimes, m.readingsSkipped)
	}
	return m
}
