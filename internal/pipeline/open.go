package pipeline

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// Options are what a pipeline is told beside the configuration.
type Options struct {
	Version  string                // of the program, for the status
	Started  time.Time             // when the program was started
	Logger   *slog.Logger          // nil: nothing is logged
	Metrics  prometheus.Registerer // nil: none are registered
	StopTime time.Duration         // how long the parts may take to stop; 0: as long as it takes
}

// A Pipeline is the parts of the running program and what they say together. The
// parts and what they say may be changed and asked for at any time, from any goroutine.
type Pipeline struct {
	o       Options
	metrics *metrics
	log     *wal.Log // nil: none
	pulse   pulse

	changing sync.Mutex // held while a part is replaced, and while all stop

	mu    sync.Mutex
	parts []*actor
	ctx   context.Context         // of all parts, nil before they run
	fail  context.CancelCauseFunc // ends what is under way while they run
	ends  atomic.Bool             // it has been asked to stop, or a part has failed
}

// New returns a pipeline without parts and without a log.
func New(o Options) *Pipeline {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Pipeline{o: o, metrics: newMetrics(o.Metrics)}
}

// Open opens the log and makes the parts that the configuration names, which do
// nothing before they are run. A config.Error says what of it cannot be used.
func Open(cfg *config.Config, o Options) (*Pipeline, error) {
	if cfg.Archive != nil && isDirectory(cfg.Archive.Path) {
		return nil, mqttetl.WithHint(&fs.PathError{Op: "open archive", Path: cfg.Archive.Path, Err: syscall.EISDIR},
			"archive.path names a file, which is created if absent")
	}
	p := New(o)
	mapper, err := publishMapper(cfg)
	if err != nil {
		return nil, config.Error{Err: err}
	}
	plan := p.plan(cfg, mapper)
	if err := p.openLog(cfg, consumers(plan)); err != nil {
		mapper.Close()
		return nil, err
	}
	for _, n := range plan {
		part, err := n.build()
		if err != nil {
			mapper.Close()
			p.log.Close()
			return nil, unbuilt(err)
		}
		p.add(&actor{Part: part, layer: n.layer, name: n.name, shelf: n.shelf})
	}
	return p, nil
}

// unbuilt is the error of a part that cannot be made. A file or a port that cannot be used is no
// fault of the configuration: another start may succeed.
func unbuilt(err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return err
	}
	return config.Error{Err: err}
}

// planned is a part that a configuration names, and how it is built when the log is open.
type planned struct {
	layer Layer
	name  string
	shelf *shelf
	build func() (Part, error)
}

// plan is the one list of the parts. Those of the layer Consumers are what the
// log is told of.
func (p *Pipeline) plan(cfg *config.Config, mapper *Mapper) (list []planned) {
	add := func(layer Layer, name string, s *shelf, build func() (Part, error)) {
		list = append(list, planned{layer, name, s, build})
	}
	m := p.metrics
	asker := newRebirths(cfg, p.o.Logger.With("part", "rebirth"), m.asked)
	if asker != nil {
		add(Reporters, "rebirth", m.rebirths, func() (Part, error) { return Func(asker.Run), nil })
	}
	if cfg.Archive != nil {
		add(Consumers, Archive, m.archives, func() (Part, error) { return p.newArchive(cfg, asker) })
	}
	if cfg.NATS != nil {
		add(Consumers, Forward, m.forwarders, func() (Part, error) { return p.newForward(cfg.NATS) })
		if routes := publishing(cfg.Routes); len(routes) > 0 {
			add(Consumers, Publish, m.publishers, func() (Part, error) { return p.newPublish(cfg, routes, mapper, asker) })
		}
	}
	for _, s := range cfg.Sources {
		add(Sources, "source "+s.Name, m.ingests, func() (Part, error) { return p.newSource(s) })
	}
	for _, l := range cfg.Listen {
		add(Sources, "listener "+l.Name, m.ingests, func() (Part, error) { return p.newListener(l) })
	}
	return list
}

func consumers(plan []planned) (names []string) {
	for _, n := range plan {
		if n.layer == Consumers {
			names = append(names, n.name)
		}
	}
	return names
}

// ConsumersOf are the consumers of the log that a configuration names.
func ConsumersOf(cfg *config.Config) []string { return consumers(New(Options{}).plan(cfg, nil)) }

// publishing are the routes that publish.
func publishing(all []transform.Route) []transform.Route {
	return slices.DeleteFunc(slices.Clone(all), func(r transform.Route) bool { return r.Publish == "" })
}

// tables are the routes that fill tables.
func tables(all []transform.Route) []transform.Route {
	return slices.DeleteFunc(slices.Clone(all), func(r transform.Route) bool { return r.Table == "" })
}

// lettersWithoutArchive is how many dead letters the log keeps when there is no
// archive that takes them.
const lettersWithoutArchive = 10_000

// openLog opens the log, and makes it a part, for these consumers.
func (p *Pipeline) openLog(cfg *config.Config, names []string) (err error) {
	mostDead := 0
	if cfg.Archive == nil {
		mostDead = lettersWithoutArchive
	}
	p.log, err = wal.Open(cfg.Log.Dir, wal.Options{
		MaxSize: cfg.Log.MaxSize, Interval: cfg.Log.CommitInterval, Consumers: names, Drain: drainOf(cfg), MostDead: mostDead, Logger: p.o.Logger.With("part", "log"), Metrics: p.metrics.log,
	})
	if err != nil {
		return err
	}
	if len(names) == 0 {
		p.o.Logger.Warn("neither archive nor nats is configured: the log only grows, and ingest pauses at max_size", "max_size", mqttetl.FormatSize(p.log.MaxSize()))
	}
	p.metrics.logs.MustRegister(lags{p})
	p.add(&actor{Part: logPart{p.log}, layer: Log, name: "log", shelf: p.metrics.logs})
	return nil
}

// Log is the open log, nil where there is none.
func (p *Pipeline) Log() *wal.Log { return p.log }
