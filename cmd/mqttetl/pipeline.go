package main

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/ingest"
	"github.com/mqttetl/mqttetl/internal/config"
	pipelines "github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// The consumers of the log, as they stand in its files and in metrics.
const (
	archiveConsumer = "archive"
	natsConsumer    = "nats"
	publishConsumer = "publish"
)

// pipeline is the parts of the running program and what they say together.
type pipeline struct {
	started   time.Time
	logger    *slog.Logger
	log       *wal.Log
	batcher   *batch.Batcher     // nil: no archive
	forwarder *forward.Forwarder // nil: no NATS
	mapper    *pipelines.Mapper  // of mapped
	mapped    *forward.Mapped    // nil: no route publishes
	sources   []*ingest.Source
	births    []mqttetl.Record // for mapped
	rebirths  *rebirths        // nil: no route asks for births

	ends       atomic.Bool // it has been asked to stop, or a part has failed
	pulse      pulse
	mu         sync.Mutex
	subscribed map[string]bool // sources that have been subscribed once
}

// logEnds is what the batcher needs of the log: its own place in it, and the
// dead letters that wait there for the archive.
type logEnds struct {
	*wal.Consumer
	*wal.Log
}

// open opens the log and makes the other parts, which do nothing before run.
func open(cfg *config.Config, started time.Time, logger *slog.Logger, reg *prometheus.Registry) (*pipeline, error) {
	p := &pipeline{started: started, logger: logger, subscribed: map[string]bool{}}
	names := consumerNames(cfg)
	if cfg.Archive != nil && isDirectory(cfg.Archive.Path) {
		return nil, mqttetl.WithHint(&fs.PathError{Op: "open archive", Path: cfg.Archive.Path, Err: syscall.EISDIR},
			"archive.path names a file, which is created if absent")
	}
	p.births = pipelines.PublishedBirths(cfg, logger)
	var err error
	p.log, err = wal.Open(cfg.Log.Dir, wal.Options{
		MaxSize: cfg.Log.MaxSize, Consumers: names, Drain: drainOf(cfg), Logger: logger.With("part", "log"), Metrics: wal.NewMetrics(reg),
	})
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		logger.Warn("neither archive nor nats is configured: the log only grows, and ingest pauses at max_size", "max_size", mqttetl.FormatSize(p.log.MaxSize()))
	}
	reg.MustRegister(lags{p.log, names})
	if err := p.addParts(cfg, reg); err != nil {
		p.log.Close()
		return nil, err
	}
	return p, nil
}

// drainOf is the archive, if its file is on the log's file system.
func drainOf(cfg *config.Config) string {
	if cfg.Archive == nil {
		return ""
	}
	path := cfg.Archive.Path
	if itself, err := filepath.EvalSymlinks(path); err == nil {
		path = itself
	}
	log, err := existing(cfg.Log.Dir)
	if err != nil {
		return ""
	}
	archive, err := existing(filepath.Dir(path))
	if err != nil {
		return ""
	}
	var a, b unix.Statfs_t
	if unix.Statfs(log, &a) != nil || unix.Statfs(archive, &b) != nil {
		return ""
	}
	if a.Fsid != b.Fsid || a.Blocks != b.Blocks {
		return ""
	}
	return archiveConsumer
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// addParts makes everything around the open log.
func (p *pipeline) addParts(cfg *config.Config, reg *prometheus.Registry) (err error) {
	p.rebirths = newRebirths(cfg, p.logger.With("part", "rebirth"), reg)
	if a := cfg.Archive; a != nil {
		routes, err := transform.Compile(tableRoutes(cfg.Routes))
		if err != nil {
			return configError{err}
		}
		p.batcher = batch.New(batch.Config{
			Path: a.Path, LogID: p.log.ID(), Count: a.Batch.Count, Period: a.Batch.Period,
			Routes: routes, Readings: a.Readings, ReadingsText: a.ReadingsText, Latest: a.Latest, Unborn: p.rebirths.ask,
			Logger: p.logger.With("part", "archive"), Metrics: batch.NewMetrics(reg),
		}, logEnds{p.log.Consumer(archiveConsumer), p.log})
	}
	if n := cfg.NATS; n != nil {
		c := natsConfig(n, p.log.ID())
		c.Key, c.Logger, c.Metrics = p.log.Key(), p.logger.With("part", "nats"), forward.NewMetrics(reg)
		p.forwarder, err = forward.New(c, p.log.Consumer(natsConsumer))
		if err != nil {
			return configError{err}
		}
	}
	if slices.Contains(consumerNames(cfg), publishConsumer) {
		if err := p.addMapped(cfg, reg); err != nil {
			return configError{err}
		}
	}
	metrics := ingest.NewMetrics(reg)
	for _, s := range cfg.Sources {
		source, err := ingest.New(ingestConfig(s, p.logger.With("part", "ingest"), metrics), p.log)
		if err != nil {
			return configError{err}
		}
		p.sources = append(p.sources, source)
	}
	return nil
}

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
	m, err := pipelines.NewMapper(set, p.births)
	if err != nil {
		return err
	}
	p.mapper = m
	m.Tell(pipelines.NewMapperMetrics(reg), p.logger.With("part", "publish"), p.rebirths.ask)
	p.births = nil
	c := natsConfig(cfg.NATS, p.log.ID())
	c.Logger = p.logger.With("part", "publish")
	p.mapped, err = forward.NewMapped(forward.MappedConfig{Config: c, Subjects: subjects, Metrics: forward.NewMappedMetrics(reg), NoLetters: cfg.Archive == nil},
		p.log.Consumer(publishConsumer), m)
	return err
}

func natsConfig(n *config.NATS, logID string) forward.Config {
	return forward.Config{
		URL: n.URL, Stream: n.Stream, SubjectPrefix: n.SubjectPrefix, CredsFile: n.CredsFile,
		TLS: forward.TLS{CA: n.TLS.CA, Cert: n.TLS.Cert, Key: n.TLS.Key}, LogID: logID,
	}
}

// tableRoutes are the routes that fill tables.
func tableRoutes(all []transform.Route) (list []transform.Route) {
	for _, r := range all {
		if r.Table != "" {
			list = append(list, r)
		}
	}
	return list
}

func consumerNames(cfg *config.Config) (names []string) {
	if cfg.Archive != nil {
		names = append(names, archiveConsumer)
	}
	if cfg.NATS != nil {
		names = append(names, natsConsumer)
		if slices.ContainsFunc(cfg.Routes, func(r transform.Route) bool { return r.Publish != "" }) {
			names = append(names, publishConsumer)
		}
	}
	return names
}

func ingestConfig(s config.Source, logger *slog.Logger, metrics *ingest.Metrics) ingest.Config {
	c := ingest.Config{
		Name: s.Name, URL: s.URL, Version: s.Version, ClientID: s.ClientID, Username: s.Username,
		TLS: ingest.TLS{
			CA: s.TLS.CA, Cert: s.TLS.Cert, Key: s.TLS.Key, ServerName: s.TLS.ServerName, Insecure: s.TLS.Insecure,
		},
		Subscribe: s.Subscribe, QoS: byte(s.QoS), Share: s.Share, Connections: s.Connections,
		ReceiveMaximum: uint16(s.ReceiveMaximum), MaxPacket: int(min(s.MaxPacket, 1<<30)), KeepAlive: s.KeepAlive, Retained: retained[s.Retained],
		Logger: logger, Metrics: metrics,
	}
	if s.HasPassword() {
		c.Password = s.ReadPassword
	}
	return c
}

var retained = map[string]ingest.RetainHandling{
	"new": ingest.RetainNew, "always": ingest.RetainAlways, "never": ingest.RetainNever,
}

// status reads the cursors before the end of the log, so that no lag is
// counted short.
func (p *pipeline) status() status {
	s := status{
		Ready:         len(p.notReady()) == 0,
		Version:       buildVersion().Version,
		UptimeSeconds: int64(time.Since(p.started).Seconds()),
		Sources:       []sourceStatus{},
	}
	for _, source := range p.sources {
		v := source.Stats()
		s.Sources = append(s.Sources, sourceStatus{v.Name, v.Connected, v.Received, v.Acknowledged, v.Redelivered, v.Reconnects, v.QoS0, v.Error})
	}
	if p.batcher != nil {
		v := p.batcher.Stats()
		s.Archive = &archiveStatus{Cursor: v.Cursor, Error: v.Error, WALBytes: v.WAL, HeldBy: v.WALHeld}
	}
	if p.forwarder != nil {
		v := p.forwarder.Stats()
		s.NATS = &natsStatus{Cursor: v.Cursor, Connected: v.Connected, Error: text(v.LastError)}
	}
	if p.mapped != nil {
		v := p.mapped.Stats()
		s.Publish = &natsStatus{Cursor: v.Cursor, Connected: v.Connected, Error: text(v.LastError)}
	}
	s.setLog(p.log.Stats())
	return s
}

// setLog fills in the log and, measured by it, the lags.
func (s *status) setLog(v wal.Stats) {
	s.Log = logStatus{First: v.First, Last: v.Last, Bytes: v.Bytes, FileBytes: v.File, Paused: v.Paused, PauseReason: v.PauseReason, HeldBy: v.HeldBy}
	if s.Archive != nil {
		s.Archive.Lag = lag(s.Archive.Cursor, v.Last)
	}
	if s.NATS != nil {
		s.NATS.Lag = lag(s.NATS.Cursor, v.Last)
	}
	if s.Publish != nil {
		s.Publish.Lag = lag(s.Publish.Cursor, v.Last)
	}
}

// notReady names every source that is not subscribed and every store or
// server that cannot be used, with the reason where one is known.
func (p *pipeline) notReady() (reasons []string) {
	add := func(what, why string) {
		if why != "" {
			what += ": " + why
		}
		reasons = append(reasons, what)
	}
	if p.ends.Load() {
		add("stopping", "")
	}
	for _, source := range p.sources {
		if v := source.Stats(); !v.Subscribed {
			add("source "+v.Name+": "+choose(v.Connected, "not subscribed", "not connected"), v.Error)
		}
	}
	if p.batcher != nil {
		if v := p.batcher.Stats(); !v.Open {
			add("archive: not open", v.Error)
		}
	}
	if p.forwarder != nil {
		if v := p.forwarder.Stats(); !v.Connected {
			add("nats: not connected", text(v.LastError))
		}
	}
	if p.mapped != nil {
		if v := p.mapped.Stats(); !v.Connected {
			add("publish: not connected", text(v.LastError))
		}
	}
	return reasons
}

// text is an error on one line, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return oneLine(err)
}

// begun tells whether the service has started as the service manager sees it:
// it stays so when a broker goes away later, and does not wait for NATS.
func (p *pipeline) begun() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, source := range p.sources {
		if v := source.Stats(); v.Subscribed {
			p.subscribed[v.Name] = true
		}
	}
	return len(p.subscribed) == len(p.sources) && (p.batcher == nil || p.batcher.Stats().Open)
}

func (p *pipeline) alive() bool { return p.pulse.beats(p.log.Stats(), time.Now()) }
