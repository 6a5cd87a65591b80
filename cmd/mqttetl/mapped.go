package main

import (
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
	applier, err := set.Applier(transform.Options{Objects: true, Escape: forward.EscapeTopic})
	if err != nil {
		return err
	}
	c := natsConfig(cfg.NATS, p.log.ID())
	c.Logger = p.logger.With("part", "publish")
	p.mapped, err = forward.NewMapped(forward.MappedConfig{Config: c, Subjects: subjects, Metrics: forward.NewMappedMetrics(reg), NoLetters: cfg.Archive == nil},
		p.log.Consumer(publishConsumer), &mapper{applier: applier})
	return err
}

// mapper shows the routes to forward.
type mapper struct {
	applier *transform.Applier
	objects []forward.Object
	letters []mqttetl.DeadLetter
}

func (m *mapper) Map(rec *mqttetl.Record) ([]forward.Object, []mqttetl.DeadLetter) {
	m.applier.Reset()
	m.applier.Apply(rec)
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

func (m *mapper) Settled() {}

func (m *mapper) Rewind() error { return nil }
