package pipeline

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/forward"
)

// Mapper shows the routes to forward. It has the births of Sparkplug as of the
// last record that is settled, to go back to them when records come again.
type Mapper struct {
	set     *transform.Set
	applier *transform.Applier
	births  map[string]mqttetl.Birth
	objects []forward.Object
	letters []mqttetl.DeadLetter
	unborn  func([]transform.Unborn) // nil: nobody is told

	metrics *mapperMetrics
	logger  *slog.Logger      // nil: nothing is said or counted
	counted []transform.Stats // those that are in the counters
	marred  uint64
	said    map[string]bool
}

// mapperMetrics are the counters of what the routes that publish have left out or replaced.
type mapperMetrics struct{ mended, unset *prometheus.CounterVec } // by route

// newMapperMetrics makes the metrics and registers them, unless reg is nil.
func newMapperMetrics(reg prometheus.Registerer) *mapperMetrics {
	by := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"route"})
	}
	m := &mapperMetrics{
		mended: by("mqttetl_publish_mended_total", "Messages of which a route publishes something although something in them was wrong. Some count again after an error of the server."),
		unset:  by("mqttetl_publish_unset_times_total", "Messages whose time was that of a clock which is not set, so that what is published has the receipt. Some count again after an error of the server."),
	}
	if reg != nil {
		reg.MustRegister(m.mended, m.unset)
	}
	return m
}

// tell makes the mapper say and count what the archive's routes do, for what is
// published, and show unborn the nodes whose birth is missing.
func (m *Mapper) tell(metrics *mapperMetrics, logger *slog.Logger, unborn func([]transform.Unborn)) {
	m.metrics, m.logger, m.unborn, m.said = metrics, logger, unborn, map[string]bool{}
}

// count counts and says what the routes have left out or replaced.
func (m *Mapper) count() {
	if m.logger == nil || m.applier.Marred() == m.marred {
		return
	}
	m.marred = m.applier.Marred()
	was := m.counted
	m.counted = m.applier.Stats()
	for i, s := range m.counted {
		if was == nil {
			was = make([]transform.Stats, len(m.counted))
		}
		m.metrics.mended.WithLabelValues(s.Route).Add(float64(s.Mended - was[i].Mended))
		m.metrics.unset.WithLabelValues(s.Route).Add(float64(s.Unset - was[i].Unset))
	}
	for _, n := range m.applier.Notes {
		if key := fmt.Sprint(n.Route, n.Kind); !m.said[key] {
			m.said[key] = true
			m.logger.Warn("a route publishes of messages in which something is wrong, and leaves that out; mqttetl_publish_mended_total and mqttetl_publish_unset_times_total count them",
				"route", n.Route, "seq", n.Seq, "first", n.Text)
		}
	}
}

// NewMapper makes one that knows the births in these records.
func NewMapper(set *transform.Set, births []mqttetl.Record) (*Mapper, error) {
	m := &Mapper{set: set, births: map[string]mqttetl.Birth{}}
	if err := m.begin(); err != nil {
		return nil, err
	}
	for i := range births {
		m.applier.Reset()
		m.applier.Apply(&births[i])
	}
	m.Settled()
	return m, nil
}

func (m *Mapper) begin() (err error) {
	o := transform.Options{Objects: true, Escape: forward.EscapeTopic}
	for _, b := range m.births {
		if b.Value != "" {
			o.Births = append(o.Births, b)
		}
	}
	m.Close()
	m.applier, err = m.set.Applier(o)
	m.counted, m.marred = nil, 0
	return err
}

func (m *Mapper) Close() {
	if m.applier != nil {
		m.applier.Close()
	}
}

// LetterMapper returns one for the dead letters of routes, which remembers no births of its own.
func LetterMapper(a *transform.Applier) *Mapper { return &Mapper{applier: a} }

// Map makes what the routes publish of a record, and dead letters of what they cannot use.
func (m *Mapper) Map(rec *mqttetl.Record) ([]forward.Object, []mqttetl.DeadLetter) {
	return m.MapLetter(rec, "")
}

// MapLetter maps what of a record the reason of its dead letter is about; all of
// it if that is "".
func (m *Mapper) MapLetter(rec *mqttetl.Record, reason string) ([]forward.Object, []mqttetl.DeadLetter) {
	m.applier.Reset()
	m.applier.ApplyLetter(rec, reason)
	if m.unborn != nil {
		m.unborn(m.applier.Unborn)
	}
	m.count()
	m.objects, m.letters = m.objects[:0], m.letters[:0]
	for _, o := range m.applier.Objects {
		m.objects = append(m.objects, forward.Object{Subject: o.Subject, Route: o.Route, N: o.N, Body: o.Body})
	}
	for i := range m.applier.Failures {
		if f := &m.applier.Failures[i]; !f.Nulls {
			l := f.DeadLetter()
			l.Stage = forward.PublishStage(f.Route)
			m.letters = append(m.letters, l)
		}
	}
	return m.objects, m.letters
}

func (m *Mapper) Ahead(recs []mqttetl.Record) { m.applier.Ahead(recs) }

func (m *Mapper) Settled() {
	if !m.set.HasBirths() {
		return
	}
	for _, b := range m.applier.Births() {
		m.births[b.Route+" "+b.Key] = b
	}
}

// Rewind begins again with the births of what is settled. Other routes remember
// nothing of records.
func (m *Mapper) Rewind(mqttetl.Seq) error {
	if !m.set.HasBirths() {
		return nil
	}
	return m.begin()
}
