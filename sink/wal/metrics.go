package wal

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the history of a log.
type Metrics struct {
	CommitSeconds  prometheus.Histogram // one transaction, begin to synced
	CommitMessages prometheus.Histogram // records in one transaction that held any
	Bytes          prometheus.Gauge
	File           prometheus.Gauge
	Paused         prometheus.Gauge // 1 while appends wait for room
	OldReaders     prometheus.Gauge
	DeadLetters    prometheus.Gauge // kept in the log, not yet in the archive
}

// NewMetrics makes the metrics and registers them, with a nil registerer it only makes them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		CommitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mqttetl_log_commit_seconds",
			Help: "Time of one log transaction from its beginning to the end of its sync.",
			// 0.1 ms to 5.6 s. A quantile read from them is off by less than a quarter.
			Buckets: prometheus.ExponentialBuckets(0.0001, 1.25, 50),
		}),
		CommitMessages: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "mqttetl_log_commit_messages",
			Help:    "Messages in one log transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 10),
		}),
		Bytes:       prometheus.NewGauge(prometheus.GaugeOpts{Name: "mqttetl_log_bytes", Help: "Bytes of live segment pages in the log."}),
		File:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "mqttetl_log_file_bytes", Help: "Bytes of the log's file, with its free pages. It does not shrink."}),
		OldReaders:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "mqttetl_log_old_readers", Help: "Readers of other processes that have held a snapshot of the log for more than 5 s: freed pages cannot be used again meanwhile."}),
		Paused:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "mqttetl_log_paused", Help: "1 while the log cannot grow and acknowledges nothing."}),
		DeadLetters: prometheus.NewGauge(prometheus.GaugeOpts{Name: "mqttetl_log_dead_letters", Help: "Dead letters that wait in the log to be moved to the archive."}),
	}
	if reg != nil {
		reg.MustRegister(m.CommitSeconds, m.CommitMessages, m.Bytes, m.File, m.OldReaders, m.Paused, m.DeadLetters)
	}
	return m
}
