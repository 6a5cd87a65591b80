package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/wal"
)

func newRun(std streams) *cobra.Command {
	var path string
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the pipeline: brokers, log, archive, NATS",
		Long: `Run subscribes to the configured brokers and moves what they send into the log,
and from there into the archive and the stream. It runs until SIGTERM or
SIGINT, which end it within a second; a second signal kills it. Killing it at any
moment loses nothing.

It ends by itself, within a second, when the files of its log are deleted or
moved away: such files would be lost, so it acknowledges nothing into them.

Exit codes: 0 stopped by a signal, 65 damaged log or stores that do not belong
together, 74 a file, directory or port cannot be used, or the log is gone, 78 bad
configuration.`,
		Example: `  mqttetl run
  mqttetl run -c mqttetl.yaml --log-level debug
  mqttetl run -c mqttetl.yaml --log-format json 2>> mqttetl.log`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err == nil {
				err = run(cmd.Context(), cfg, logs.logger(std.err))
			}
			return logs.mark(withDamageHint(err))
		},
	}
	configFlag(cmd, &path)
	logs.add(cmd)
	return cmd
}

// run is the whole program:
//
//	brokers ─▶ sources ─▶ log ─┬─▶ batcher ───▶ archive
//	                           ├─▶ forwarder ─▶ stream
//	                           └─▶ mapped ────▶ streams of the routes that publish
//	             http, notifier: what all of them say of themselves
//
// It returns nil when ctx ends, else the error of the part that cannot go on.
func run(ctx context.Context, cfg *config.Config, logger *slog.Logger) error {
	started := time.Now()
	var listener net.Listener
	if cfg.HTTP != nil {
		var err error
		if listener, err = listen(cfg.HTTP.Listen); err != nil {
			return err
		}
		defer listener.Close()
	}
	registry := newRegistry(started)
	p, err := open(cfg, started, logger, registry)
	if err != nil {
		return err
	}
	logger.Info("started", "version", buildVersion().Version, "log", cfg.Log.Dir, "max_size", mqttetl.FormatSize(p.log.MaxSize()), "first", p.log.Stats().First, "last", p.log.Stats().Last)
	return p.run(ctx, listener, registry)
}

// run runs all actors until one fails or ctx ends, the sources last: they are
// the first that need the others. It closes the log.
func (p *pipeline) run(ctx context.Context, listener net.Listener, metrics prometheus.Gatherer) error {
	running, fail := context.WithCancelCause(ctx) // ends when the process is asked to stop, or when a part fails
	defer fail(nil)
	log, consumers := p.startStores(ctx, fail)
	reporters, sources := newCrew(ctx, fail), newCrew(ctx, fail)
	if listener != nil {
		p.logger.Info("listening", "address", listener.Addr().String())
		reporters.start(func(ctx context.Context) error { return serveHTTP(ctx, listener, endpoints(p, metrics), p.logger) })
	}
	reporters.start((&memory{look: memoryLook, spare: memorySpare}).Run)
	reporters.start((&notifier{pipeline: p, logger: p.logger}).Run)
	if p.rebirths != nil {
		reporters.start(p.rebirths.Run)
	}
	for _, s := range p.sources {
		sources.start(s.Run)
	}
	<-running.Done()
	p.ends.Store(true)
	if errors.Is(context.Cause(running), wal.ErrGone) {
		consumers.patience = lastReading
	}
	err := p.stop(reporters, sources, consumers, log)
	if ctx.Err() == nil {
		return context.Cause(running)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		p.logger.Warn("a part failed while stopping", "error", err)
	}
	return nil
}
