package pipeline

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl/batch"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/ingest"
	"github.com/mqttetl/mqttetl/ingest/door"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// metrics are those of the parts of one pipeline, made once.
type metrics struct {
	log     *wal.Metrics
	archive *batch.Metrics
	forward *forward.Metrics
	publish *forward.PublisherMetrics
	mapper  *mapperMetrics
	sources *ingest.Metrics
	doors   *door.Metrics
	asked   *prometheus.CounterVec // edge nodes of Sparkplug, by source

	// Where each kind of part registers its own while there is one.
	logs, archives, forwarders, publishers, ingests, rebirths *shelf
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{}
	for _, s := range []**shelf{&m.logs, &m.archives, &m.forwarders, &m.publishers, &m.ingests, &m.rebirths} {
		*s = &shelf{reg: reg}
	}
	m.log = wal.NewMetrics(m.logs)
	m.archive = batch.NewMetrics(m.archives)
	m.forward = forward.NewMetrics(m.forwarders)
	m.publish, m.mapper = forward.NewPublisherMetrics(m.publishers), newMapperMetrics(m.publishers)
	m.sources, m.doors = ingest.NewMetrics(m.ingests), door.NewMetrics(m.ingests)
	m.asked = newAsked(m.rebirths)
	return m
}

// shelf is the metrics of one kind of part. They are registered as long as a part
// uses them, and keep their values beyond. A nil shelf has none. Its users change
// under the lock of the pipeline.
type shelf struct {
	reg   prometheus.Registerer // nil: they are never registered
	all   []prometheus.Collector
	users int
}

func (s *shelf) use() {
	if s == nil {
		return
	}
	if s.users++; s.users == 1 && s.reg != nil {
		s.reg.MustRegister(s.all...)
	}
}

func (s *shelf) leave() {
	if s == nil {
		return
	}
	if s.users--; s.users == 0 && s.reg != nil {
		for _, c := range s.all {
			s.reg.Unregister(c)
		}
	}
}

// Register and the others make the shelf what metrics are registered with when they are made.
func (s *shelf) Register(c prometheus.Collector) error {
	s.all = append(s.all, c)
	return nil
}

func (s *shelf) MustRegister(cs ...prometheus.Collector) { s.all = append(s.all, cs...) }

func (s *shelf) Unregister(prometheus.Collector) bool { return false }

// lags collects, at each scrape, how far each consumer of the log is behind.
type lags struct{ p *Pipeline }

var (
	lagMessages = prometheus.NewDesc("mqttetl_lag_messages", "Records of the log that the consumer does not hold durably yet.", []string{"consumer"}, nil)
	lagSeconds  = prometheus.NewDesc("mqttetl_lag_seconds", "Age of the oldest record that the consumer does not hold durably yet, 0 without one.", []string{"consumer"}, nil)
)

func (l lags) Describe(ch chan<- *prometheus.Desc) {
	ch <- lagMessages
	ch <- lagSeconds
}

func (l lags) Collect(ch chan<- prometheus.Metric) {
	for _, a := range l.p.of(Consumers) {
		records, age, err := l.p.log.Consumer(a.name).Lag()
		if err != nil {
			ch <- prometheus.NewInvalidMetric(lagSeconds, err)
			continue
		}
		ch <- prometheus.MustNewConstMetric(lagMessages, prometheus.GaugeValue, float64(records), a.name)
		ch <- prometheus.MustNewConstMetric(lagSeconds, prometheus.GaugeValue, age.Seconds(), a.name)
	}
}
