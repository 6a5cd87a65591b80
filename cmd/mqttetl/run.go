package main

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/internal/reporters"
)

func newRun(std streams) *cobra.Command {
	var path string
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the pipeline: brokers and devices, log, archive, NATS",
		Long: `Run subscribes to the configured brokers, listens for devices where listen says so,
and moves what they send into the log, and from there into the archive and the stream. It runs until SIGTERM or
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
//	brokers ─▶ sources ─▶ log ─┬─▶ archive
//	                           ├─▶ nats: a stream
//	                           └─▶ publish: streams of the routes that publish
//	         http, notifier: what all of them say of themselves
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
	p, err := openService(cfg, started, logger, newRegistry(started), listener)
	if err != nil {
		return err
	}
	at := p.Log().Stats()
	logger.Info("started", "version", buildVersion().Version, "log", cfg.Log.Dir, "max_size", mqttetl.FormatSize(p.Log().MaxSize()), "first", at.First, "last", at.Last)
	return p.Run(ctx)
}

// openService opens the pipeline, with what a service says of it and of itself.
func openService(cfg *config.Config, started time.Time, logger *slog.Logger, registry *prometheus.Registry, listener net.Listener) (*pipeline.Pipeline, error) {
	p, err := pipeline.Open(cfg, pipeline.Options{
		Version: buildVersion().Version, Started: started, Logger: logger, Metrics: registry, StopTime: pipeline.StopTime,
	})
	if err != nil {
		return nil, err
	}
	if listener != nil {
		p.Add(pipeline.Reporters, "http", pipeline.Func(func(ctx context.Context) error {
			return reporters.Serve(ctx, listener, reporters.Endpoints(p, registry), logger)
		}))
	}
	p.Add(pipeline.Reporters, "memory", pipeline.Func(reporters.NewMemory().Run))
	p.Add(pipeline.Reporters, "notifier", pipeline.Func(reporters.NewNotifier(p, logger).Run))
	return p, nil
}

// listen binds the address of the HTTP listener.
func listen(address string) (net.Listener, error) {
	l, err := reporters.Listen(address)
	if err != nil {
		return nil, codedError{err, exitIO}
	}
	return l, nil
}

// newRegistry is a registry with what is true of this process.
func newRegistry(started time.Time) *prometheus.Registry {
	b := buildVersion()
	return reporters.NewRegistry(started, map[string]string{"version": b.Version, "commit": b.Commit, "goversion": b.Go})
}
