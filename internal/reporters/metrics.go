package reporters

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry returns a registry with what is true of the whole process; build are
// the labels that say what was built.
func NewRegistry(started time.Time, build map[string]string) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "mqttetl_build_info",
		Help:        "Always 1; the labels say what was built.",
		ConstLabels: build,
	})
	info.Set(1)
	uptime := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mqttetl_uptime_seconds",
		Help: "Seconds since the start.",
	}, func() float64 { return time.Since(started).Seconds() })
	reg.MustRegister(info, uptime, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}
