package instrument

import (
	"bytes"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mqttetl/mqttetl/internal/histogram"
)

// Metrics are a page of Prometheus, by name.
type Metrics map[string]*dto.MetricFamily

// ParseMetrics reads a page.
func ParseMetrics(page []byte) (Metrics, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	return p.TextToMetricFamilies(bytes.NewReader(page))
}

// Value is a counter or a gauge, or how often a histogram has observed; 0 if there is
// none of that name.
func (m Metrics) Value(name string) float64 {
	f := m[name]
	if len(f.GetMetric()) == 0 {
		return 0
	}
	switch v := f.GetMetric()[0]; {
	case v.Counter != nil:
		return v.Counter.GetValue()
	case v.Histogram != nil:
		return float64(v.Histogram.GetSampleCount())
	default:
		return v.GetGauge().GetValue()
	}
}

// Quantile is that of what a histogram has observed since before, NaN if nothing.
func (m Metrics) Quantile(q float64, name string, before Metrics) float64 {
	return histogram.Of(m[name]).Since(histogram.Of(before[name])).Quantile(q)
}
