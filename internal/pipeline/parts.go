package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl/batch"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/ingest"
	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/disk"
	"github.com/mqttetl/mqttetl/internal/visible"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/store"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// The consumers of the log, by which its files, the metrics and /readyz know them.
const (
	Archive = "archive"
	Forward = "nats" // its name in files and metrics
	Publish = "publish"
)

// logPart is the log itself: not being able to grow is a pause, and no fault.
type logPart struct{ *wal.Log }

// Run also has the log look for its files as soon as something is moved or removed there.
func (l logPart) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		moved := func() {
			if backoff.Pause(ctx, lookAfter) {
				l.Look()
			}
		}
		for disk.Watch(ctx, l.Dir(), moved) != nil && backoff.Pause(ctx, watchAgain) {
			l.Look()
		}
	})
	defer watch.Wait()
	defer stop()
	return l.Log.Run(ctx)
}

const (
	// lookAfter is how long something may take that removes or moves more than one file: the
	// log is to say what it has done in the end.
	lookAfter = 100 * time.Millisecond
	// watchAgain is how often the log looks for its files where the system does not tell.
	watchAgain = 750 * time.Millisecond
)

func (logPart) Ready() string      { return "" }
func (l logPart) report(s *Status) { s.SetLog(l.Stats()) }

// archivePart fills the archive.
type archivePart struct{ *batch.Batcher }

// logEnds is what the batcher needs of the log: its own place in it, and the
// dead letters that wait there for the archive.
type logEnds struct {
	*wal.Consumer
	*wal.Log
}

func (p *Pipeline) newArchive(cfg *config.Config, asker *rebirths) (Part, error) {
	routes, err := transform.Compile(tables(cfg.Routes))
	if err != nil {
		return nil, err
	}
	a := cfg.Archive
	return archivePart{batch.New(batch.Config{
		Name: a.Path,
		Open: func(o store.Options) (batch.Archive, error) { return archive.OpenWith(a.Path, p.log.ID(), o) }, Count: a.Batch.Count, Period: a.Batch.Period,
		Routes: routes, Readings: a.Readings, ReadingsText: a.ReadingsText, Latest: a.Latest, Unborn: asker.ask,
		Logger: p.o.Logger.With("part", "archive"), Metrics: p.metrics.archive,
	}, logEnds{p.log.Consumer(Archive), p.log})}, nil
}

func (a archivePart) Ready() string {
	if v := a.Stats(); !v.Open {
		return because("not open", v.Error)
	}
	return ""
}

func (a archivePart) begun() bool { return a.Stats().Open }

func (a archivePart) report(s *Status) {
	v := a.Stats()
	s.Archive = &ArchiveStatus{Cursor: v.Cursor, Error: v.Error, WALBytes: v.WAL, HeldBy: v.WALHeld}
}

// forwardPart forwards the records.
type forwardPart struct{ *forward.Forwarder }

func (p *Pipeline) newForward(n *config.NATS) (Part, error) {
	c := NATSConfig(n, p.log.ID())
	c.Key, c.Logger, c.Metrics = p.log.Key(), p.o.Logger.With("part", "nats"), p.metrics.forward
	f, err := forward.New(c, p.log.Consumer(Forward))
	if err != nil {
		return nil, err
	}
	return forwardPart{f}, nil
}

func (f forwardPart) Ready() string    { return connected(f.Stats()) }
func (f forwardPart) report(s *Status) { s.NATS = natsStatus(f.Stats()) }

// publishPart publishes what the routes map.
type publishPart struct {
	*forward.Publisher
	mapper  *Mapper
	before  *bornBefore // nil: no route needs births
	logger  *slog.Logger
	learned atomic.Bool // or there is nothing to learn
}

func (p *Pipeline) newPublish(cfg *config.Config, routes []transform.Route, m *Mapper, asker *rebirths) (Part, error) {
	c := NATSConfig(cfg.NATS, p.log.ID())
	c.Logger = p.o.Logger.With("part", "publish")
	m.tell(p.metrics.mapper, c.Logger, asker.ask)
	var subjects []string
	for i := range routes {
		subjects = append(subjects, routes[i].Subjects())
	}
	published, err := forward.NewPublisher(forward.PublisherConfig{Config: c, Subjects: subjects, Metrics: p.metrics.publish, NoLetters: cfg.Archive == nil},
		p.log.Consumer(Publish), m)
	if err != nil {
		return nil, err
	}
	part := &publishPart{Publisher: published, mapper: m, logger: c.Logger}
	if slices.ContainsFunc(cfg.Routes, publishesSparkplug) {
		log := p.log.Consumer(Publish)
		part.before = &bornBefore{archive: cfg.Archive, log: log, position: log.Stored()}
	}
	return part, nil
}

// Run learns the births of its position before it maps the first record. Nothing else waits for it.
func (m *publishPart) Run(ctx context.Context) error {
	defer m.mapper.Close()
	if m.before != nil {
		m.learn(ctx)
	}
	m.learned.Store(true)
	return m.Publisher.Run(ctx)
}

// learnTries is how often the births are read. The archive may be upgraded meanwhile.
const learnTries = 10

func (m *publishPart) learn(ctx context.Context) {
	pause := backoff.Backoff{First: 100 * time.Millisecond, Most: 10 * time.Second}
	for try := 1; ; try++ {
		m.before.read.Store(0)
		err := m.before.each(ctx, m.mapper.Learn)
		if err == nil || ctx.Err() != nil {
			return
		}
		if try == learnTries {
			m.logger.Warn("the Sparkplug births before its position cannot be read: without them published data waits for the next births", "error", err)
			return
		}
		m.logger.Debug("the Sparkplug births before its position cannot be read yet", "error", err)
		if !pause.Wait(ctx) {
			return
		}
	}
}

// learning says what keeps it from publishing at the start, "" for nothing.
func (m *publishPart) learning() string {
	if m.before == nil || m.learned.Load() {
		return ""
	}
	return fmt.Sprintf("reading the Sparkplug births before its position, %d so far", m.before.read.Load())
}

// Ready is not for what is being learned: that takes its time, and is no fault.
func (m *publishPart) Ready() string {
	if m.learning() != "" {
		return ""
	}
	return connected(m.Stats())
}

func (m *publishPart) report(s *Status) {
	s.Publish = natsStatus(m.Stats())
	if text := m.learning(); text != "" {
		s.Publish.Cursor, s.Publish.Error = m.before.position, text
	}
}

// sourcePart receives from a broker.
type sourcePart struct {
	*ingest.Source
	subscribed atomic.Bool // once
	metrics    *ingest.Metrics
}

func (p *Pipeline) newSource(s config.Source) (Part, error) {
	source, err := ingest.New(ingestConfig(s, p.o.Logger.With("part", "ingest"), p.metrics.sources), p.log)
	if err != nil {
		return nil, err
	}
	return &sourcePart{Source: source, metrics: p.metrics.sources}, nil
}

func (s *sourcePart) Ready() string {
	switch v := s.Stats(); {
	case v.Subscribed:
		return ""
	case v.Connected:
		return because("not subscribed", v.Error)
	default:
		return because("not connected", v.Error)
	}
}

func (s *sourcePart) begun() bool {
	if s.Stats().Subscribed {
		s.subscribed.Store(true)
	}
	return s.subscribed.Load()
}

func (s *sourcePart) report(to *Status) {
	v := s.Stats()
	to.Sources = append(to.Sources, SourceStatus{v.Name, v.Connected, v.Received, v.Acknowledged, v.Redelivered, v.Reconnects, v.QoS0, v.Error})
}

func (s *sourcePart) forget() { s.metrics.Forget(s.Stats().Name) }

// connected is why a consumer cannot use NATS, "" if it can.
func connected(v forward.Stats) string {
	if v.Connected {
		return ""
	}
	return because("not connected", text(v.LastError))
}

func natsStatus(v forward.Stats) *NATSStatus {
	return &NATSStatus{Cursor: v.Cursor, Connected: v.Connected, Error: text(v.LastError)}
}

// because is what is wrong and, where it is known, why.
func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// text is an error on one line, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return visible.OneLine(err)
}
