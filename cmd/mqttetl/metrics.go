package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/mqttetl/mqttetl/sink/wal"
)

// newRegistry returns a registry with what is true of the whole process.
func newRegistry(started time.Time) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	b := buildVersion()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "mqttetl_build_info",
		Help:        "Always 1; the labels say what was built.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "goversion": b.Go},
	})
	info.Set(1)
	uptime := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mqttetl_uptime_seconds",
		Help: "Seconds since the start.",
	}, func() float64 { return time.Since(started).Seconds() })
	reg.MustRegister(info, uptime, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// lags collects, at each scrape, how far each consumer of the log is behind.
type lags struct {
	log       *wal.Log
	consumers []string
}

var (
	lagMessages = prometheus.NewDesc("mqttetl_lag_messages", "Records of the log that the consumer does not hold durably yet.", []string{"consumer"}, nil)
	lagSeconds  = prometheus.NewDesc("mqttetl_lag_seconds", "Age of the oldest record that the consumer does not hold durably yet, 0 without one.", []string{"consumer"}, nil)
)

func (l lags) Describe(ch chan<- *prometheus.Desc) {
	ch <- lagMessages
	ch <- lagSeconds
}

func (l lags) Collect(ch chan<- prometheus.Metric) {
	for _, name := range l.consumers {
		records, age, err := l.log.Consumer(name).Lag()
		if err != nil {
			ch <- prometheus.NewInvalidMetric(lagSeconds, err)
			continue
		}
		ch <- prometheus.MustNewConstMetric(lagMessages, prometheus.GaugeValue, float64(records), name)
		ch <- prometheus.MustNewConstMetric(lagSeconds, prometheus.GaugeValue, age.Seconds(), name)
	}
}
