package reporters

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/procfs"
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
	written := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "mqttetl_disk_written_bytes_total",
		Help: "Bytes that this process has had written to disk, without those of the file system (write_bytes of /proc/self/io).",
	}, writtenBytes)
	reg.MustRegister(info, uptime, written, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// writtenBytes is 0 where the kernel does not account for it.
func writtenBytes() float64 {
	p, err := procfs.Self()
	if err != nil {
		return 0
	}
	io, err := p.IO()
	if err != nil {
		return 0
	}
	return float64(io.WriteBytes)
}
