package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
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
