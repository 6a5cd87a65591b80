package pipeline

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Mapper shows the routes to forward. In births are those of Sparkplug as of the
// last record that is settled, to go back to them when records come again.
type Mapper struct {
	set     *transform.Set
	applier *transform.Applier
	births  *archive.Births // nil: no route reads Sparkplug
	unsaved []store.Birth   // settled, but not in births yet
	learned int             // bytes of the payloads that they are of
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

// NewMapper makes one that knows no births.
func NewMapper(set *transform.Set) (*Mapper, error) {
	m := &Mapper{set: set}
	if set.HasBirths() {
		var err error
		if m.births, err = archive.OpenBirths(); err != nil {
			return nil, err
		}
	}
	if err := m.begin(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// saveAtOnce is how many births are learned in one transaction, and saveBytes how
// large they may be together: until then they are in memory twice.
const (
	saveAtOnce = 256
	saveBytes  = 1 << 20
)

// Learn takes in a birth of before the first record.
func (m *Mapper) Learn(rec *mqttetl.Record) error {
	m.applier.Reset()
	m.applier.Apply(rec)
	m.unsaved = append(m.unsaved, m.applier.Births()...)
	m.learned += len(rec.Payload)
	if len(m.unsaved) < saveAtOnce && m.learned < saveBytes {
		return m.applier.Err()
	}
	m.learned = 0
	return errors.Join(m.applier.Err(), m.save())
}

func (m *Mapper) begin() (err error) {
	if m.applier != nil {
		m.applier.Close()
	}
	o := transform.Options{Objects: true}
	if m.births != nil {
		o.Births = m.births
	}
	m.applier, err = m.set.Applier(o)
	m.counted, m.marred = nil, 0
	return err
}

// Close may be called of nil.
func (m *Mapper) Close() {
	if m == nil {
		return
	}
	if m.applier != nil {
		m.applier.Close()
	}
	if m.births != nil {
		_ = m.births.Close() // it is temporary
	}
}

// LetterMapper returns one for the dead letters of routes. The births, nil if there
// are none, are those of the applier, and stay open.
func LetterMapper(a *transform.Applier, births *archive.Births) *Mapper {
	return &Mapper{applier: a, births: births}
}

// Map makes what the routes publish of a record, and dead letters of what they cannot use.
func (m *Mapper) Map(rec *mqttetl.Record) ([]forward.Object, []mqttetl.DeadLetter, error) {
	return m.MapLetter(rec, "")
}

// MapLetter maps what of a record the reason of its dead letter is about; all of
// it if that is "".
func (m *Mapper) MapLetter(rec *mqttetl.Record, reason string) ([]forward.Object, []mqttetl.DeadLetter, error) {
	if err := m.save(); err != nil {
		return nil, nil, err
	}
	m.applier.Reset()
	m.applier.ApplyLetter(rec, reason)
	if err := m.applier.Err(); err != nil {
		return nil, nil, err
	}
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
			l.Stage = mqttetl.PublishStage(f.Route)
			m.letters = append(m.letters, l)
		}
	}
	return m.objects, m.letters, nil
}

func (m *Mapper) Ahead(recs []mqttetl.Record) { m.applier.Ahead(recs) }

func (m *Mapper) Settled() {
	if m.births != nil {
		m.unsaved = append(m.unsaved, m.applier.Births()...)
		_ = m.save() // Map tries it again, and returns the error
	}
}

// save keeps what is settled. Until that has been done nothing can be mapped.
func (m *Mapper) save() error {
	if len(m.unsaved) == 0 {
		return nil
	}
	err := m.births.Append(m.unsaved)
	if err == nil {
		m.unsaved = nil
	}
	return err
}

// Rewind begins again with the births of what is settled. Other routes remember
// nothing of records.
func (m *Mapper) Rewind(mqttetl.Seq) error {
	if m.births == nil {
		return nil
	}
	return m.begin()
}
