package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/archive"
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
			return f.run(cmd.Context(), std, cfg, routes, since)
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
		return nil, configError{fmt.Errorf("--route %s: the configuration has no routes", name)}
	}
	return nil, fmt.Errorf("--route %s: there is no such route, only %s", name, strings.Join(names, ", "))
}

// routeError is an error of findRoute: of the command line, unless the
// configuration has no routes at all.
func routeError(err error, cmd *cobra.Command) error {
	if _, ok := errors.AsType[configError](err); ok {
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

// rerun is a table being built anew.
type rerun struct {
	rebuild *archive.Rebuild
	reader  *archive.Reader
	set     *transform.Set
	applier *transform.Applier
	stages  []string
	names   []string // of the routes

	routes []transform.Route
	births *archive.Births // nil: no route reads Sparkplug

	swapTime time.Duration

	sel     mqttetl.Selection
	at      mqttetl.Seq // the record that is applied next
	applied uint64
	rows    uint64
	letters []mqttetl.DeadLetter
	show    func(done, of mqttetl.Seq)
}

// openRerun compiles the routes and opens the archive. close ends what it returns.
func openRerun(ctx context.Context, cfg *config.Config, routes []transform.Route) (r *rerun, err error) {
	if cfg.Archive == nil {
		return nil, configError{errors.New("there is no archive in the configuration")}
	}
	set, err := transform.Compile(routes)
	if err != nil {
		return nil, configError{err}
	}
	r = &rerun{set: set, routes: routes, swapTime: swapTime}
	defer func() {
		if err != nil {
			r.close() // the first error is the one that says why
			r = nil
		}
	}()
	for _, route := range routes {
		r.names = append(r.names, route.Name)
		r.stages = append(r.stages, transform.Stage(route.Name))
	}
	r.sel.Topics = set.Filters()
	r.show = func(mqttetl.Seq, mqttetl.Seq) {}
	if set.HasBirths() {
		if r.births, err = archive.OpenBirths(); err != nil {
			return r, err
		}
	}
	if r.applier, err = set.Applier(withBirths(transform.Options{NoSuspend: true}, r.births)); err != nil {
		return r, configError{err}
	}
	if r.reader, err = archive.OpenReader(cfg.Archive.Path); err != nil {
		return r, err
	}
	r.rebuild, err = archive.OpenRebuild(ctx, cfg.Archive.Path, set.Tables()[0])
	return r, err
}

// withBirths leaves out a table that is not there.
func withBirths(o transform.Options, births *archive.Births) transform.Options {
	if births != nil {
		o.Births = births
	}
	return o
}

func (r *rerun) close() {
	if r.applier != nil {
		r.applier.Close()
	}
	if r.births != nil {
		_ = r.births.Close() // it is temporary
	}
	if r.reader != nil {
		_ = r.reader.Close()
	}
	if r.rebuild != nil {
		_ = r.rebuild.Close() // what matters is committed; the last to leave takes the write-ahead log away
	}
}

func (f *rerunFlags) run(ctx context.Context, std streams, cfg *config.Config, routes []transform.Route, since time.Time) error {
	r, err := openRerun(ctx, cfg, routes)
	if err != nil {
		return err
	}
	defer r.close()
	line := newProgressLine(std.err, f.quiet)
	defer line.clear()
	var from mqttetl.Seq
	r.show = func(done, of mqttetl.Seq) {
		if from == 0 {
			from = done
		}
		line.show(func(elapsed time.Duration) string { return rerunProgress(from, done, of, elapsed) })
	}
	done, err := f.begin(ctx, std.err, cfg, r, routes, since)
	if err != nil || done {
		return err
	}
	was, are, err := r.build(ctx)
	if err != nil {
		return err
	}
	line.clear()
	fmt.Fprintf(std.err, "table %s: %d rows of %d messages, records %d to %d; dead letters: %d, before %d\n",
		r.set.Tables()[0].Name, r.rows, r.applied, r.rebuild.State.First, r.rebuild.State.Next-1, are, was)
	return r.rebuild.Discard(ctx)
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

// begin finds out where to begin, and says what should be known. done: no
// message is meant, or an interrupted rerun had only its old table left to remove.
func (f *rerunFlags) begin(ctx context.Context, w io.Writer, cfg *config.Config, r *rerun, routes []transform.Route, since time.Time) (done bool, err error) {
	table := r.set.Tables()[0].Name
	if !f.resume && !since.IsZero() {
		first, err := firstSince(ctx, r.reader, since)
		if err != nil {
			return false, err
		}
		if cursor, err := r.reader.Cursor(); err != nil || first > cursor {
			if err == nil {
				fmt.Fprintf(w, "no archived message was received since %s: table %s stays as it is\n", f.since, table)
			}
			return true, err
		}
	}
	if err := f.checkTable(w, cfg, r, table, since); err != nil {
		return false, err
	}
	id, err := newRerunIdentity(routes, f.since)
	if err != nil {
		return false, err
	}
	b := r.rebuild
	if f.resume {
		switch left, err := b.Leftover(); {
		case err != nil:
			return false, err
		case b.Found && b.State.Routes != id.text():
			return false, id.differs(table, b.State.Routes)
		case !b.Found && left:
			fmt.Fprintf(w, "table %s has been replaced already\n", table)
			return true, b.Discard(ctx)
		case !b.Found:
			fmt.Fprintf(w, "no rerun of table %s was interrupted: beginning anew\n", table)
		}
	}
	if f.resume && b.Found {
		err = b.Resume()
	} else {
		var first mqttetl.Seq
		if first, err = firstSince(ctx, r.reader, since); err == nil {
			err = b.Begin(ctx, archive.RebuildState{Routes: id.text(), First: first})
		}
	}
	if err != nil {
		return false, err
	}
	r.at = b.State.Next
	if r.set.HasBirths() { // births stand anywhere before
		r.at = 1
	}
	return false, b.Keep(ctx, func(rows int64) { r.rows += uint64(rows) })
}

// checkTable compares the table that is there with the one that will be.
func (f *rerunFlags) checkTable(w io.Writer, cfg *config.Config, r *rerun, table string, since time.Time) error {
	running := serviceRuns(cfg)
	changed, exists, err := r.rebuild.Changed()
	if err != nil {
		return err
	}
	if len(changed) > 0 && !since.IsZero() {
		return fmt.Errorf("--since keeps rows of table %s, in which the type of %s is another: rerun all of it", table, strings.Join(changed, ", "))
	}
	if len(changed) > 0 && running {
		return mqttetl.WithHint(fmt.Errorf("table %s: the type of %s changes, and the service fills it as it is", table, strings.Join(changed, ", ")),
			"stop the service, run this again, and start the service with this configuration")
	}
	if !exists && running {
		fmt.Fprintf(w, "the service does not fill table %s yet: what arrives until it is started with this configuration is missing until the next rerun\n", table)
	}
	indexes, err := r.rebuild.Indexes()
	for _, sql := range indexes {
		fmt.Fprintf(w, "goes with the old table, make it again: %s;\n", sql)
	}
	return err
}

// serviceRuns says whether a process has the log open.
func serviceRuns(cfg *config.Config) bool {
	held, err := wal.Held(cfg.Log.Dir)
	return err == nil && held
}

// firstSince is the first archived record that was received at that time or
// later; the one behind the last if there is none.
func firstSince(ctx context.Context, reader *archive.Reader, since time.Time) (mqttetl.Seq, error) {
	if since.IsZero() {
		return 1, nil
	}
	cursor, err := reader.Cursor()
	if err != nil {
		return 0, err
	}
	recs, _, err := reader.Scan(ctx, &mqttetl.Selection{Since: since}, 1, cursor, nil)
	if errors.Is(err, io.EOF) {
		return cursor + 1, nil
	}
	if err != nil {
		return 0, err
	}
	return recs[0].Seq, nil
}
