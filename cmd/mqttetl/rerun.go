package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/rerun"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// rerunFlags say which table is built anew.
type rerunFlags struct {
	config, route, since string
	resume, quiet        bool
	publishes            bool
}

func newRerun(std streams) *cobra.Command {
	var f rerunFlags
	cmd := &cobra.Command{
		Use:   "rerun --route NAME",
		Short: "Build a typed table anew from the archived messages",
		Long: `Rerun applies a route, and the others that feed the same table, to the messages in
the archive, from the first one or from --since. The rows gather in a new table, which
replaces the old one at the end, in one transaction. The service may run: start it
with the same routes before, then the new table also has every message that arrives
meanwhile, once. Stop the service only if the type of a column changes.

Rerun tries dead letters of the routes again, and deletes those that succeed. It tries
Sparkplug messages that came before their birth certificate with those that came
later. With --since, rows of earlier messages stay as they are.

After a kill at any moment, --resume continues. The old table stays until the end.

With --publish no table is built. Rerun makes the objects of the dead letters of stage
publish:ROUTE again and publishes them, with the same Nats-Msg-Id. It deletes the dead
letters that the stream confirms.`,
		Example: `  mqttetl transform rerun -c mqttetl.yaml --route temperatures
  mqttetl transform rerun -c mqttetl.yaml --route temperatures --since 7d
  mqttetl transform rerun -c mqttetl.yaml --route temperatures --publish`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			since, err := mqttetl.ParseTime(f.since, time.Now())
			if err != nil {
				return usageError{named("since", err), cmd}
			}
			cfg, err := loadStores(f.config)
			if err != nil {
				return err
			}
			if f.publishes {
				return f.publish(cmd, std, cfg, since)
			}
			routes, err := routesOfTable(cfg, f.route)
			if err != nil {
				return routeError(err, cmd)
			}
			return f.build(cmd.Context(), std, cfg, routes, since)
		},
	}
	configFlag(cmd, &f.config)
	flags := cmd.Flags()
	flags.StringVar(&f.route, "route", "", "name of the route")
	flags.StringVar(&f.since, "since", "", "only messages from the first one on that was received then: "+mqttetl.TimeForms)
	flags.BoolVar(&f.resume, "resume", false, "continue where an interrupted rerun of the table has stopped")
	flags.BoolVar(&f.publishes, "publish", false, "publish the route's dead letters of stage publish again")
	flags.BoolVar(&f.quiet, "no-progress", false, "no progress on a terminal")
	_ = cmd.MarkFlagRequired("route") // fails only for a flag that does not exist
	return cmd
}

// findRoute is the route of that name.
func findRoute(cfg *config.Config, name string) (*transform.Route, error) {
	var names []string
	for i := range cfg.Routes {
		if cfg.Routes[i].Name == name {
			return &cfg.Routes[i], nil
		}
		names = append(names, cfg.Routes[i].Name)
	}
	if len(names) == 0 {
		return nil, config.Error{Err: fmt.Errorf("--route %s: the configuration has no routes", name)}
	}
	return nil, fmt.Errorf("--route %s: there is no such route, only %s", name, strings.Join(names, ", "))
}

// routeError is an error of findRoute: of the command line, unless the
// configuration has no routes at all.
func routeError(err error, cmd *cobra.Command) error {
	if _, ok := errors.AsType[config.Error](err); ok {
		return err
	}
	return usageError{err, cmd}
}

// routesOfTable are all routes that feed the table of the named one.
func routesOfTable(cfg *config.Config, name string) ([]transform.Route, error) {
	r, err := findRoute(cfg, name)
	if err != nil {
		return nil, err
	}
	if r.Table == "" {
		return nil, fmt.Errorf("--route %s: the route has no table; --publish publishes its dead letters again", name)
	}
	var list []transform.Route
	for _, other := range cfg.Routes {
		if strings.EqualFold(other.Table, r.Table) {
			list = append(list, other)
		}
	}
	return list, nil
}

// build builds the table anew.
func (f *rerunFlags) build(ctx context.Context, std streams, cfg *config.Config, routes []transform.Route, since time.Time) error {
	if cfg.Archive == nil {
		return config.Error{Err: errors.New("there is no archive in the configuration")}
	}
	line := newProgressLine(std.err, f.quiet)
	defer line.clear()
	var from mqttetl.Seq
	job := rerun.Table{
		Archive: cfg.Archive.Path, Routes: routes, Since: since, SinceText: f.since, Resume: f.resume, Running: serviceRuns(cfg),
		Say: func(text string) { fmt.Fprintln(std.err, text) },
		Progress: func(done, of mqttetl.Seq) {
			if from == 0 {
				from = done
			}
			line.show(func(elapsed time.Duration) string { return rerunProgress(from, done, of, elapsed) })
		},
	}
	r, err := job.Run(ctx)
	line.clear()
	if r != nil {
		fmt.Fprintf(std.err, "table %s: %d rows of %d messages, records %d to %d; dead letters: %d, before %d\n",
			r.Table, r.Rows, r.Messages, r.First, r.Last, r.Are, r.Was)
	}
	return err
}

// rerunProgress is the line on the terminal.
func rerunProgress(from, done, of mqttetl.Seq, elapsed time.Duration) string {
	text := fmt.Sprintf("record %d of %d  %.0f/s", done, of, rate(uint64(done-from), elapsed))
	if done > from && of > done {
		left := time.Duration(float64(elapsed) * float64(of-done) / float64(done-from))
		text += fmt.Sprintf("  %v to go", left.Round(time.Second))
	}
	return text
}

// serviceRuns says whether a process has the log open.
func serviceRuns(cfg *config.Config) bool {
	held, err := wal.Held(cfg.Log.Dir)
	return err == nil && held
}

// publish publishes the objects of a route's dead letters again.
func (f *rerunFlags) publish(cmd *cobra.Command, std streams, cfg *config.Config, since time.Time) error {
	route, err := findRoute(cfg, f.route)
	switch {
	case err != nil:
		return routeError(err, cmd)
	case f.resume:
		return usageError{errors.New("--publish has nothing to resume: what is published is no dead letter any more"), cmd}
	case route.Publish == "":
		return usageError{fmt.Errorf("--route %s: the route publishes nothing", f.route), cmd}
	case cfg.Archive == nil:
		return config.Error{Err: errors.New("there is no archive in the configuration, which keeps the dead letters")}
	}
	p, err := rerun.Publish{Archive: cfg.Archive.Path, Route: *route, Since: since, NATS: cfg.NATS}.Run(cmd.Context())
	switch {
	case err != nil:
		return err
	case p.Stay > 0:
		return fmt.Errorf("route %s: %s published, %d stay: %s", route.Name, plural(p.Gone, "dead letter"), p.Stay, p.Why)
	case p.Gone == 0:
		fmt.Fprintf(std.err, "route %s: no dead letter of %s is selected\n", route.Name, p.Stage)
	default:
		fmt.Fprintf(std.err, "route %s: %s published\n", route.Name, plural(p.Gone, "dead letter"))
	}
	return nil
}
