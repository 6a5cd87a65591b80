package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/routetest"
	"github.com/mqttetl/mqttetl/internal/visible"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/history"
	"github.com/mqttetl/mqttetl/sink/store"
)

func newTransform(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transform COMMAND",
		Short: "Try what the routes make of messages, or apply them to the archive again",
		Example: `  mqttetl transform try -c mqttetl.yaml --topic factory/1/temp --payload 21.5
  mqttetl transform rerun -c mqttetl.yaml --route temperatures`,
		RunE: needCommand,

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(newTry(std), newRerun(std))
	return cmd
}

// newWorker is the hidden command that runs the jq of routes, see transform.Work.
func newWorker(std streams) *cobra.Command {
	return &cobra.Command{
		Use:    transform.WorkCommand,
		Short:  "The jq of routes, in a process of its own",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return transform.Work(std.in, std.out) },
	}
}

// tryFlags say which messages are tried.
type tryFlags struct {
	selectionFlags
	payload string
	live    bool
	count   int
	route   string
	output  outputFormat
}

// configured is the value of --archive without one. A file of that name is
// ./configured.
const configured = "configured"

func newTry(std streams) *cobra.Command {
	var f tryFlags
	cmd := &cobra.Command{
		Use:   "try",
		Short: "Print the rows that the routes make of messages; writes nothing",
		Long: `Try applies the routes of the configuration to one message, given by --topic and
--payload (- reads standard input), to what arrives now (--live), or to what is
archived (--archive, with the flags of export; --archive=FILE reads another
archive), and prints the rows. Messages that a route cannot use are named on
standard error with the route and the reason.

--live follows the log of the running service, as tail does, so that no broker
sees a second client.

Exit codes: 0 tried, 1 a route could not use the message of --topic and --payload, or
none matches its topic, 65 damaged or foreign stores, 69 nothing has been
recorded yet, 74 an archive cannot be read, 78 bad configuration.`,
		Example: `  mqttetl transform try -c mqttetl.yaml --topic factory/1/temp --payload 21.5
  echo 21.5 | mqttetl transform try -c mqttetl.yaml --topic factory/1/temp --payload - -o csv
  mqttetl transform try -c mqttetl.yaml --live --count 3
  mqttetl transform try -c mqttetl.yaml --archive --since 1h --limit 5`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && f.archive == configured {
				return fmt.Errorf("--archive takes its file with =, as --archive=%s", args[0])
			}
			return noArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return usageError{err, cmd}
			}
			return f.run(cmd, std)
		},
	}
	f.selectionFlags.add(cmd)
	flags := cmd.Flags()
	archived := flags.Lookup("archive")
	archived.NoOptDefVal, archived.Usage = configured, "try the messages in the archive, or with = in this `file`"
	archived.DefValue = ""
	flags.StringVar(&f.payload, "payload", "", "try one message with this payload and --topic; - is standard input")
	flags.BoolVar(&f.live, "live", false, "try the messages that arrive from now on")
	flags.IntVar(&f.count, "count", 0, "with --live, end after this number of messages; 0: go on")
	flags.StringVar(&f.route, "route", "", "only this route")
	outputFlag(cmd, &f.output)
	return cmd
}

// check wants one of the three ways.
func (f *tryFlags) check(cmd *cobra.Command) error {
	single := cmd.Flags().Changed("payload")
	ways := 0
	for _, on := range []bool{single, f.live, f.archive != ""} {
		if on {
			ways++
		}
	}
	switch {
	case ways != 1:
		return errors.New("which messages? one of --topic with --payload, --live, --archive")
	case single && len(f.topics) != 1:
		return errors.New("--payload needs one --topic")
	case single && strings.ContainsAny(f.topics[0], "+#"):
		return fmt.Errorf("--topic %s: a message has a topic without + and #", f.topics[0])
	case f.count < 0 || f.count > 0 && !f.live:
		return errors.New("--count belongs to --live, and must not be negative")
	case f.live && (f.since != "" || f.until != "" || f.seq != "" || f.limit > 0):
		return errors.New("--live begins now: --since, --until, --seq and --limit belong to --archive")
	}
	return nil
}

// tried applies the routes and prints what they make.
type tried struct {
	applier *transform.Applier
	births  *archive.Births // nil: no route reads Sparkplug
	rows    *rowPrinter
	err     io.Writer
	failed  int
}

func (f *tryFlags) run(cmd *cobra.Command, std streams) error {
	cfg, err := loadStores(f.config)
	if err != nil {
		return err
	}
	routes := cfg.Routes
	if f.route != "" {
		r, err := findRoute(cfg, f.route)
		if err != nil {
			return routeError(err, cmd)
		}
		routes = []transform.Route{*r}
	}
	if len(routes) == 0 {
		return config.Error{Err: fmt.Errorf("%s has no routes", f.config)}
	}
	set, err := transform.Compile(routes)
	if err != nil {
		return config.Error{Err: err}
	}
	t := &tried{rows: &rowPrinter{kind: f.output, w: std.out, streaming: f.live}, err: std.err}
	if set.HasBirths() {
		if t.births, err = archive.OpenBirths(); err != nil {
			return err
		}
		defer t.births.Close()
	}
	if f.live && t.births != nil {
		knownBirths(cmd.Context(), cfg, t.births)
	}
	var o transform.Options
	if t.births != nil {
		o.Births = t.births
	}
	if t.applier, err = set.Applier(o); err != nil {
		return config.Error{Err: err}
	}
	defer t.applier.Close()
	switch {
	case f.live:
		err = f.follow(cmd, std, cfg, t)
	case f.archive != "":
		err = f.past(cmd, set, t)
	default:
		return f.message(std, set, t)
	}
	return errors.Join(err, t.rows.end())
}

// knownBirths takes over those that the archive has, if it can be asked: the
// service may not have learned any yet.
func knownBirths(ctx context.Context, cfg *config.Config, to *archive.Births) {
	if cfg.Archive == nil {
		return
	}
	_ = archive.EachBirth(ctx, cfg.Archive.Path, func(b store.Birth) error { return to.Append([]store.Birth{b}) })
}

// message tries one message. That a route cannot use it is the exit code, too.
func (f *tryFlags) message(std streams, set *transform.Set, t *tried) error {
	payload := []byte(f.payload)
	if f.payload == "-" {
		var err error
		if payload, err = io.ReadAll(io.LimitReader(std.in, 256<<20)); err != nil {
			return err
		}
		payload = bytes.TrimSuffix(payload, []byte("\n"))
	}
	topic := []byte(f.topics[0])
	rec := &mqttetl.Record{Seq: 1, Time: time.Now().UnixNano(), Source: "try", Message: mqttetl.Message{Topic: topic, Payload: payload}}
	if err := t.apply(rec); err != nil {
		return err
	}
	t.show(rec)
	if err := t.rows.end(); err != nil {
		return err
	}
	switch {
	case t.failed > 0:
		return fmt.Errorf("%s could not use the message", plural(t.failed, "route"))
	case !t.applier.Takes(topic):
		return mqttetl.WithHint(fmt.Errorf("no route takes the topic %s", visible.Text(f.topics[0])), "the routes take "+strings.Join(patterns(set), ", "))
	case t.rows.printed == 0:
		fmt.Fprintln(std.err, "the routes make no row of it")
	}
	return nil
}

func patterns(set *transform.Set) (list []string) {
	for _, r := range set.Routes() {
		list = append(list, r.Topic)
	}
	return list
}

// apply applies the routes to a record.
func (t *tried) apply(rec *mqttetl.Record) error {
	t.applier.Reset()
	t.applier.Apply(rec)
	if err := t.applier.Err(); err != nil || t.births == nil {
		return err
	}
	return t.births.Append(t.applier.Births())
}

// show prints what they have made of it.
func (t *tried) show(rec *mqttetl.Record) {
	for i := range t.applier.Rows {
		t.rows.add(&t.applier.Rows[i])
	}
	for _, n := range t.applier.Notes {
		fmt.Fprintf(t.err, "record %d, %s: route %s: %s\n", rec.Seq, visible.Text(string(rec.Topic)), n.Route, visible.Text(n.Text))
	}
	for i := range t.applier.Failures {
		fail := &t.applier.Failures[i]
		t.failed++
		fmt.Fprintf(t.err, "record %d, %s: route %s: %s\n", rec.Seq, visible.Text(string(rec.Topic)), fail.Route, visible.Text(fail.DeadLetter().Reason))
	}
}

// follow tries what arrives.
func (f *tryFlags) follow(cmd *cobra.Command, std streams, cfg *config.Config, t *tried) error {
	tail := tailFlags{topics: f.topics, sources: f.sources, count: f.count}
	follower, err := tail.follower(std)
	if err != nil {
		return usageError{err, cmd}
	}
	places := history.Places{LogDir: cfg.Log.Dir}
	if cfg.Archive != nil {
		places.Archive = cfg.Archive.Path
	}
	if follower.history, err = history.Open(places); err != nil {
		return err
	}
	defer follower.history.Close()
	if !serviceRuns(cfg) {
		fmt.Fprintln(std.err, "the service does not run: waiting for what it will record")
	}
	follower.append = func(dst []byte, r *mqttetl.Record) ([]byte, error) {
		if err := t.apply(r); err != nil {
			return dst, err
		}
		t.show(r)
		return dst, t.rows.flush()
	}
	err = follower.run(cmd.Context())
	if cmd.Context().Err() != nil {
		return nil // interrupted, which is its end
	}
	return err
}

// past tries what was recorded. Sparkplug needs all that came before.
func (f *tryFlags) past(cmd *cobra.Command, set *transform.Set, t *tried) error {
	if f.archive == configured {
		f.archive = ""
	}
	h, sel, err := f.open(cmd)
	if err != nil {
		return err
	}
	defer h.Close()
	read := sel
	if set.HasBirths() {
		read = mqttetl.Selection{To: sel.To, Topics: sel.Topics, Sources: sel.Sources}
	}
	n := uint64(0)
	for c := h.Select(read); ; {
		recs, err := c.Next(cmd.Context())
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range recs {
			if err := t.apply(&recs[i]); err != nil {
				return err
			}
			if !sel.Matches(&recs[i]) {
				continue
			}
			if n++; sel.Limit > 0 && n > sel.Limit {
				return nil
			}
			t.show(&recs[i])
		}
		if err := t.rows.flush(); err != nil {
			return err
		}
	}
}

// rowPrinter prints rows of typed tables: NDJSON a line each, CSV and tables for
// people one typed table after the other.
type rowPrinter struct {
	kind      outputFormat
	w         io.Writer
	streaming bool // nobody knows when it ends: print what there is

	line    []byte
	printed int
	reports []*report
	names   []string // of the reports' tables
	err     error
}

func (p *rowPrinter) format() outputFormat {
	switch {
	case p.kind != "":
		return p.kind
	case isTerminal(p.w):
		return "table"
	}
	return "ndjson"
}

func (p *rowPrinter) add(rows *store.Rows) {
	columns := append([]string{"table"}, routetest.Columns(rows.Table)...)
	for i := range rows.Len() {
		p.printed++
		values := []any{rows.Table.Name}
		for k, v := range rows.Row(i) {
			if k == 1 && v.Kind == store.Int {
				values = append(values, routetest.Text(v, true))
				continue
			}
			values = append(values, v.Interface())
		}
		if p.format() == "ndjson" {
			p.line = append(appendRow(p.line, columns, values), '\n')
			continue
		}
		r := p.report(rows.Table.Name, columns)
		cells := make([]string, len(values))
		for k, v := range values {
			cells[k] = cell(v)
		}
		r.rows = append(r.rows, cells)
		r.document = append(r.document.([]json.RawMessage), appendRow(nil, columns, values))
	}
}

func (p *rowPrinter) report(table string, columns []string) *report {
	i := slices.Index(p.names, table)
	if i < 0 {
		i = len(p.names)
		p.names = append(p.names, table)
		p.reports = append(p.reports, &report{header: columns, document: []json.RawMessage{}})
	}
	return p.reports[i]
}

// flush prints what can be printed already.
func (p *rowPrinter) flush() error {
	if len(p.line) > 0 && p.err == nil {
		_, p.err = p.w.Write(p.line)
		p.line = p.line[:0]
	}
	if !p.streaming {
		return p.err
	}
	return p.end()
}

// end prints the rest.
func (p *rowPrinter) end() error {
	if len(p.line) > 0 && p.err == nil {
		_, p.err = p.w.Write(p.line)
		p.line = p.line[:0]
	}
	all := []json.RawMessage{}
	for _, r := range p.reports {
		if len(r.rows) == 0 || p.err != nil {
			continue
		}
		if p.format() == "json" {
			all = append(all, r.document.([]json.RawMessage)...)
		} else {
			p.err = p.format().write(p.w, *r)
		}
		r.rows, r.document = nil, []json.RawMessage{}
	}
	if p.format() == "json" && (len(all) > 0 || !p.streaming) && p.err == nil {
		p.err = p.format().write(p.w, report{document: all})
	}
	return p.err
}
