package ingest

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// A Source receives from one broker, over one or more connections.
type Source struct {
	cfg      Config
	counters *sourceCounters
	links    []*link
}

// Stats is the state of a source.
type Stats struct {
	Name         string
	Connected    bool   // every connection is up
	Subscribed   bool   // and every filter is granted on each
	Error        string // why one of them is not, "" if all are or no attempt has failed
	Received     uint64 // messages handed to the log
	QoS0         uint64 // of them, those of QoS 0, which have no acknowledgement
	Acknowledged uint64 // PUBACKs and PUBRECs sent
	Redelivered  uint64 // messages of QoS 1 and 2 with DUP set
	Reconnects   uint64 // connections after the first of each link
}

// New checks the configuration and returns the source; it does no I/O. The
// error names everything that is impossible.
func New(cfg Config, log Log) (*Source, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("source %s: %w", cfg.Name, err)
	}
	u, err := dial.URL(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", cfg.Name, err)
	}
	s := &Source{cfg: cfg, counters: newSourceCounters(cfg.Metrics, cfg.Name)}
	watch := &dropped{gauge: s.counters.dropped, logger: cfg.Logger.With("source", cfg.Name)}
	for _, f := range cfg.Subscribe {
		watch.wanted = watch.wanted || mqttetl.Filter(f).Matches([]byte(droppedTopic))
	}
	for i := range cfg.Connections {
		s.links = append(s.links, newLink(&s.cfg, i, u, log, s.counters, watch))
	}
	return s, nil
}

// Run receives until ctx ends and then returns nil. It reconnects for ever; only
// an error of the log ends it earlier, and is returned.
func (s *Source) Run(ctx context.Context) error {
	g, inner := errgroup.WithContext(ctx)
	for _, l := range s.links {
		g.Go(func() error { return l.run(inner) })
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("source %s: %w", s.cfg.Name, err)
	}
	return nil
}

// Stats returns the source's state. It may be called at any time.
func (s *Source) Stats() Stats {
	c, n := s.counters, int64(len(s.links))
	return Stats{
		Name:         s.cfg.Name,
		Connected:    c.up.Load() == n,
		Subscribed:   c.subscribed.Load() == n,
		Error:        s.trouble(),
		Received:     c.messages.Load(),
		QoS0:         c.qos0.Load(),
		Acknowledged: c.acks.Load(),
		Redelivered:  c.again.Load(),
		Reconnects:   c.connects.Load(),
	}
}

// trouble is that of the first link that has one.
func (s *Source) trouble() string {
	for _, l := range s.links {
		l.mu.Lock()
		why := l.trouble
		l.mu.Unlock()
		if why != "" {
			return why
		}
	}
	return ""
}
