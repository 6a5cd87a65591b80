package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/export"
	"github.com/mqttetl/mqttetl/internal/visible"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/history"
)

// queryFlags say what is asked.
type queryFlags struct {
	selectionFlags
	last   int
	count  bool
	by     string
	sql    string
	output outputFormat
}

var groupings = []string{"topic", "source", "hour"}

func newQuery(std streams) *cobra.Command {
	f := queryFlags{}
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Look at recorded messages, count them, or ask in SQL",
		Long: `Query prints the last records that match, or counts all of them, in one sum
or by topic, source or hour. Times are in UTC. It reads the archive and what is not
archived yet, while the service runs. On a terminal, --by hour draws a line of the
hourly rates.

--sql runs one statement on the archive and cannot change it. The view msg
has the columns seq, time, topic, source, qos, retain, payload, properties.

Exit codes: 0 answered, also with no rows, 1 the statement is wrong, 65 damaged or
foreign stores, 69 nothing has been recorded yet, 74 an archive that --archive
names cannot be read, 78 bad configuration.`,
		Example: `  mqttetl query --topic 'factory/+/temp' --since 1h
  mqttetl query --by topic --since today
  mqttetl query --by hour --since 7d --topic 'factory/#'
  mqttetl query --sql "select topic, max(cast(payload as real)) from msg group by topic" -o csv`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd.Flags().Changed); err != nil {
				return usageError{err, cmd}
			}
			if f.sql != "" {
				return f.ask(cmd.Context(), std)
			}
			h, sel, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer h.Close()
			if f.count || f.by != "" {
				return f.sum(cmd.Context(), std, h.Select(sel))
			}
			return f.list(cmd.Context(), std, h, sel)
		},
	}
	f.selectionFlags.add(cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.last, "last", 20, "number of records to print, the last ones; 0: all, from the first on")
	flags.BoolVar(&f.count, "count", false, "count instead of printing")
	flags.StringVar(&f.by, "by", "", "count by "+strings.Join(groupings, ", "))
	flags.StringVar(&f.sql, "sql", "", "statement to run on the archive")
	outputFlag(cmd, &f.output)
	return cmd
}

// check refuses flags that would mean nothing beside others.
func (f *queryFlags) check(given func(flag string) bool) error {
	if f.by != "" && !slices.Contains(groupings, f.by) {
		return fmt.Errorf("--by %s: must be one of %s", f.by, strings.Join(groupings, ", "))
	}
	if f.last < 0 {
		return errors.New("--last must not be negative")
	}
	if given("last") && (f.count || f.by != "") {
		return errors.New("--last is for printing: --count and --by count all that match, or with --limit the first")
	}
	if given("last") && f.last > 0 && f.limit > 0 {
		return errors.New("--last prints the last records, --limit the first: one of them")
	}
	if given("sql") && strings.TrimSpace(f.sql) == "" {
		return errors.New("--sql: which statement?")
	}
	word, rest := archive.Statement(f.sql)
	if rest != "" {
		return fmt.Errorf("--sql takes one statement, after the first comes %q", visible.Text(rest[:min(len(rest), 40)]))
	}
	if f.sql != "" && !slices.Contains(archive.Asking, word) {
		return fmt.Errorf("--sql %s: must be one of %s, the archive is not changed", visible.Text(word), strings.Join(archive.Asking, ", "))
	}
	for _, flag := range []string{"count", "by", "last", "since", "until", "seq", "topic", "source", "limit"} {
		if given("sql") && given(flag) {
			return fmt.Errorf("--%s means nothing with --sql: the statement says which records it reads", flag)
		}
	}
	return nil
}

// kind is the output format that is wanted, or that fits its destination.
func (f *queryFlags) kind(w io.Writer) outputFormat {
	switch {
	case f.output != "":
		return f.output
	case isTerminal(w):
		return "table"
	}
	return "ndjson"
}

// list prints records.
func (f *queryFlags) list(ctx context.Context, std streams, h *history.History, sel mqttetl.Selection) error {
	var src export.Source = h.Select(sel)
	if f.last > 0 && sel.Limit == 0 {
		recs, err := h.Tail(ctx, sel, f.last)
		if err != nil {
			return err
		}
		src = &given{recs}
	}
	switch f.kind(std.out) {
	case "ndjson":
		n, err := export.Lines(ctx, std.out, src, func() export.Encoder { return &export.JSON{} })
		return sayNone(std.err, n, err)
	case "csv":
		if _, err := io.WriteString(std.out, export.CSVHeader); err != nil {
			return err
		}
		n, err := export.Lines(ctx, std.out, src, func() export.Encoder { return &export.CSV{} })
		return sayNone(std.err, n, err)
	}
	r := report{document: []json.RawMessage{}, header: []string{"seq", "time", "source", "topic", "qos", "payload"}}
	for {
		recs, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return sayNone(std.err, uint64(len(r.rows)), f.kind(std.out).write(std.out, r))
		}
		if err != nil {
			return err
		}
		for i := range recs {
			r.addRecord(&recs[i])
		}
	}
}

// sayNone says so if there were no records and no error, which it returns.
func sayNone(w io.Writer, n uint64, err error) error {
	if err == nil && n == 0 {
		fmt.Fprintln(w, noRecords)
	}
	return err
}

// given is a Source of records that are there already.
type given struct{ recs []mqttetl.Record }

func (g *given) Next(context.Context) ([]mqttetl.Record, error) {
	if len(g.recs) == 0 {
		return nil, io.EOF
	}
	recs := g.recs
	g.recs = nil
	return recs, nil
}

// addRecord adds a record to a table and to the document.
func (r *report) addRecord(rec *mqttetl.Record) {
	var enc export.JSON
	line := enc.Append(nil, rec)
	r.document = append(r.document.([]json.RawMessage), line)
	const width = 60
	payload := string(visible.Append(nil, rec.Payload[:min(len(rec.Payload), 4*width)]))
	if export.Binary(rec.Payload) {
		payload = fmt.Sprintf("(%d bytes) %x", len(rec.Payload), rec.Payload[:min(len(rec.Payload), width/3)])
	}
	if utf8.RuneCountInString(payload) > width {
		payload = string([]rune(payload)[:width-1]) + "…"
	}
	r.rows = append(r.rows, []string{strconv.FormatUint(uint64(rec.Seq), 10), rec.When().Format("2006-01-02T15:04:05.000Z"), rec.Source,
		string(visible.Append(nil, rec.Topic)), strconv.Itoa(rec.Flags.QoS()), payload})
}
