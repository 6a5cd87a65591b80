package main

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/internal/config"
)

// addMapped makes the consumer that publishes what the routes map.
func (p *pipeline) addMapped(cfg *config.Config, reg *prometheus.Registry) error {
	var routes []transform.Route
	var subjects []string
	for _, r := range cfg.Routes {
		if r.Publish != "" {
			routes, subjects = append(routes, r), append(subjects, r.Subjects())
		}
	}
	set, err := transform.Compile(routes)
	if err != nil {
		return err
	}
	m, err := newMapper(set, p.births)
	if err != nil {
		return err
	}
	p.mapper, m.unborn = m, p.rebirths.ask
	m.tell(reg, p.logger.With("part", "publish"))
	p.births = nil
	c := natsConfig(cfg.NATS, p.log.ID())
	c.Logger = p.logger.With("part", "publish")
	p.mapped, err = forward.NewMapped(forward.MappedConfig{Config: c, Subjects: subjects, Metrics: forward.NewMappedMetrics(reg), NoLetters: cfg.Archive == nil},
		p.log.Consumer(publishConsumer), m)
	return err
}

// mapper shows the routes to forward. It has the births of Sparkplug as of the
// last record that is settled, to go back to them when records come again.
type mapper struct {
	set     *transform.Set
	applier *transform.Applier
	births  map[string]mqttetl.Birth
	objects []forward.Object
	letters []mqttetl.DeadLetter
	unborn  func([]transform.Unborn) // nil: nobody is told

	mended, unset *prometheus.CounterVec // by route
	logger        *slog.Logger
	counted       []transform.Stats // those that are in the counters
	marred        uint64
	said          map[string]bool
}

// tell makes the mapper say and count what the archive's routes do, for what is published.
func (m *mapper) tell(reg *prometheus.Registry, logger *slog.Logger) {
	by := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"route"})
	}
	m.mended = by("mqttetl_publish_mended_total", "Messages of which a route publishes something although something in them was wrong. Some count again after an error of the server.")
	m.unset = by("mqttetl_publish_unset_times_total", "Messages whose time was that of a clock which is not set, so that what is published has the receipt. Some count again after an error of the server.")
	m.logger, m.said = logger, map[string]bool{}
	reg.MustRegister(m.mended, m.unset)
}

// count counts and says what the routes have left out or replaced.
func (m *mapper) count() {
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
		m.mended.WithLabelValues(s.Route).Add(float64(s.Mended - was[i].Mended))
		m.unset.WithLabelValues(s.Route).Add(float64(s.Unset - was[i].Unset))
	}
	for _, n := range m.applier.Notes {
		if key := fmt.Sprint(n.Route, n.Kind); !m.said[key] {
			m.said[key] = true
			m.logger.Warn("a route publishes of messages in which something is wrong, and leaves that out; mqttetl_publish_mended_total and mqttetl_publish_unset_times_total count them",
				"route", n.Route, "seq", n.Seq, "first", n.Text)
		}
	}
}

// newMapper makes one that knows the births in these records.
func newMapper(set *transform.Set, births []mqttetl.Record) (*mapper, error) {
	m := &mapper{set: set, births: map[string]mqttetl.Birth{}}
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

func (m *mapper) begin() (err error) {
	o := transform.Options{Objects: true, Escape: forward.EscapeTopic}
	for _, b := range m.births {
		if b.Value != "" {
			o.Births = append(o.Births, b)
		}
	}
	m.close()
	m.applier, err = m.set.Applier(o)
	m.counted, m.marred = nil, 0
	return err
}

func (m *mapper) close() {
	if m.applier != nil {
		m.applier.Close()
	}
}

func (m *mapper) Map(rec *mqttetl.Record) ([]forward.Object, []mqttetl.DeadLetter) {
	return m.mapLetter(rec, "")
}

// mapLetter maps what of a record the reason of its dead letter is about; all of
// it if that is "".
func (m *mapper) mapLetter(rec *mqttetl.Record, reason string) ([]forward.Object, []mqttetl.DeadLetter) {
	m.applier.Reset()
	applyLetter(m.applier, rec, reason)
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
			l.Stage = publishStage(f.Route)
			m.letters = append(m.letters, l)
		}
	}
	return m.objects, m.letters
}

func (m *mapper) Ahead(recs []mqttetl.Record) { m.applier.Ahead(recs) }

func (m *mapper) Settled() {
	if !m.set.HasBirths() {
		return
	}
	for _, b := range m.applier.Births() {
		m.births[b.Route+" "+b.Key] = b
	}
}

// Rewind begins again with the births of what is settled. Other routes remember
// nothing of records.
func (m *mapper) Rewind(mqttetl.Seq) error {
	if !m.set.HasBirths() {
		return nil
	}
	return m.begin()
}
