package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/format"
	visible "github.com/mqttetl/mqttetl/internal/format"
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
		Long: `Query prints the last records that are meant, or counts all of them, in one sum
or by topic, source or hour (UTC). It looks at the archive and at what is not
archived yet, beside the running service. On a terminal --by hour has a line of
the hourly rates.

--sql runs one statement on the archive, which it cannot change. The view msg
has the columns seq, time, topic, source, qos, retain, payload, properties.`,
		Example: `  mqttetl query --topic 'factory/+/temp' --since 1h
  mqttetl query --by topic --since today
  mqttetl query --by hour --since 7d --topic 'factory/#'
  mqttetl query --sql "select topic, max(cast(payload as real)) from msg group by topic" -o csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.by != "" && !slices.Contains(groupings, f.by) {
				return usageError{fmt.Errorf("--by %s: must be one of %s", f.by, strings.Join(groupings, ", ")), cmd}
			}
			if f.last < 0 || f.sql != "" && (f.count || f.by != "") {
				return usageError{errors.New("--last must not be negative, and --sql stands alone"), cmd}
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
	flags.IntVar(&f.last, "last", 20, "print the last so many records; 0: all, from the first on")
	flags.BoolVar(&f.count, "count", false, "count instead of printing")
	flags.StringVar(&f.by, "by", "", "count by "+strings.Join(groupings, ", "))
	flags.StringVar(&f.sql, "sql", "", "statement to run on the archive")
	outputFlag(cmd, &f.output)
	return cmd
}

// kind is the output format that is wanted, or that fits where it goes.
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
	var src format.Source = h.Select(sel)
	if f.last > 0 && sel.Limit == 0 {
		recs, err := lastOf(ctx, h, sel, f.last)
		if err != nil {
			return err
		}
		src = &given{recs}
	}
	switch f.kind(std.out) {
	case "ndjson":
		_, err := format.Lines(ctx, std.out, src, func() format.Encoder { return &format.JSON{} })
		return err
	case "csv":
		if _, err := io.WriteString(std.out, format.CSVHeader); err != nil {
			return err
		}
		_, err := format.Lines(ctx, std.out, src, func() format.Encoder { return &format.CSV{} })
		return err
	}
	r := report{document: []json.RawMessage{}, header: []string{"seq", "time", "source", "topic", "qos", "payload"}}
	for {
		recs, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return f.kind(std.out).write(std.out, r)
		}
		if err != nil {
			return err
		}
		for i := range recs {
			r.addRecord(&recs[i])
		}
	}
}

// lastOf returns the last n records of a selection, from windows that grow
// backwards from its end.
func lastOf(ctx context.Context, h *history.History, sel mqttetl.Selection, n int) (found []mqttetl.Record, err error) {
	first, last := h.Select(sel).Bounds()
	for width := mqttetl.Seq(4096); last >= first && len(found) < n; width *= 2 {
		part := sel
		part.From, part.To = max(first, last-min(last, width)+1), last
		var recs []mqttetl.Record
		for c := h.Select(part); ; {
			some, err := c.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
			recs = append(recs, some...)
			recs = slices.Clone(recs[max(0, len(recs)-n):])
		}
		found = append(recs, found...)
		last = part.From - 1
	}
	return found[max(0, len(found)-n):], nil
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
	var enc format.JSON
	line := enc.Append(nil, rec)
	r.document = append(r.document.([]json.RawMessage), line)
	const width = 60
	payload := string(visible.Visible(nil, rec.Payload[:min(len(rec.Payload), 4*width)]))
	if format.Binary(rec.Payload) {
		payload = fmt.Sprintf("(%d bytes) %x", len(rec.Payload), rec.Payload[:min(len(rec.Payload), width/3)])
	}
	if utf8.RuneCountInString(payload) > width {
		payload = string([]rune(payload)[:width-1]) + "…"
	}
	r.rows = append(r.rows, []string{strconv.FormatUint(uint64(rec.Seq), 10), rec.When().Local().Format("2006-01-02 15:04:05.000"), rec.Source,
		string(visible.Visible(nil, rec.Topic)), strconv.Itoa(rec.Flags.QoS()), payload})
}

// group is a line of a count.
type group struct {
	Name  string `json:"name"`
	Count uint64 `json:"count"`
	Bytes uint64 `json:"bytes"` // of payloads
	First string `json:"first"` // recorded times, RFC 3339
	Last  string `json:"last"`

	first, last int64
}

// sum counts records.
func (f *queryFlags) sum(ctx context.Context, std streams, src format.Source) error {
	groups := map[string]*group{}
	for {
		recs, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for i := range recs {
			count(groups, f.by, &recs[i])
		}
	}
	return f.writeGroups(std.out, groups)
}

// hourLayout names an hour, in UTC.
const hourLayout = "2006-01-02T15:00:00Z"

func count(groups map[string]*group, by string, r *mqttetl.Record) {
	name := "all"
	switch by {
	case "topic":
		if g, ok := groups[string(r.Topic)]; ok {
			g.add(r)
			return
		}
		name = string(r.Topic)
	case "source":
		name = r.Source
	case "hour":
		name = r.When().Format(hourLayout)
	}
	g, ok := groups[name]
	if !ok {
		g = &group{Name: name, first: r.Time, last: r.Time}
		groups[name] = g
	}
	g.add(r)
}

func (g *group) add(r *mqttetl.Record) {
	g.Count++
	g.Bytes += uint64(len(r.Payload))
	g.first, g.last = min(g.first, r.Time), max(g.last, r.Time)
}

// writeGroups prints counts: hours by time, others by size.
func (f *queryFlags) writeGroups(w io.Writer, groups map[string]*group) error {
	if f.by == "" && len(groups) == 0 {
		groups["all"] = &group{Name: "all"}
	}
	list := make([]*group, 0, len(groups))
	for _, g := range groups {
		if g.Count > 0 {
			g.First, g.Last = time.Unix(0, g.first).UTC().Format(time.RFC3339Nano), time.Unix(0, g.last).UTC().Format(time.RFC3339Nano)
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *group) int {
		if f.by != "hour" && a.Count != b.Count {
			return int(max(-1, min(1, int64(b.Count)-int64(a.Count))))
		}
		return strings.Compare(a.Name, b.Name)
	})
	kind := f.kind(w)
	if kind == "ndjson" {
		enc := json.NewEncoder(w)
		for _, g := range list {
			if err := enc.Encode(g); err != nil {
				return err
			}
		}
		return nil
	}
	r := report{document: list, header: []string{choose(f.by == "", "records", f.by), "count", "bytes", "first", "last"}}
	for _, g := range list {
		r.rows = append(r.rows, []string{string(visible.Visible(nil, []byte(g.Name))), strconv.FormatUint(g.Count, 10), strconv.FormatUint(g.Bytes, 10), g.First, g.Last})
	}
	if err := kind.write(w, r); err != nil {
		return err
	}
	if kind == "table" && f.by == "hour" && len(list) > 1 {
		_, err := fmt.Fprintln(w, sparkline(list))
		return err
	}
	return nil
}

// sparkline draws the rate of every hour from the first to the last, those
// without a record too, of the last hundred.
func sparkline(hours []*group) string {
	at := func(g *group) time.Time {
		t, err := time.Parse(hourLayout, g.Name)
		if err != nil {
			panic(err) // count has written it
		}
		return t
	}
	const most = 100
	end := at(hours[len(hours)-1])
	n := min(most, int(end.Sub(at(hours[0])).Hours())+1)
	counts := make([]uint64, n)
	for _, g := range hours {
		if back := int(end.Sub(at(g)).Hours()); back < n {
			counts[n-1-back] = g.Count
		}
	}
	top := slices.Max(counts)
	var b strings.Builder
	for _, c := range counts {
		if c == 0 {
			b.WriteRune(' ')
			continue
		}
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[int(c*7/top)])
	}
	return fmt.Sprintf("%s  up to %.1f/s", b.String(), float64(top)/3600)
}

// ask runs the SQL statement.
func (f *queryFlags) ask(ctx context.Context, std streams) error {
	path := f.archive
	if path == "" {
		cfg, err := loadConfig(f.config)
		if err != nil {
			return err
		}
		if cfg.Archive == nil {
			return configError{errors.New("there is no archive in the configuration")}
		}
		path = cfg.Archive.Path
	}
	if kind := f.kind(std.out); kind != "ndjson" {
		return f.askTable(ctx, std, path, kind)
	}
	w := bufio.NewWriterSize(std.out, 64<<10)
	var line []byte
	err := archive.Query(ctx, path, f.sql, func(columns []string, values []any) error {
		line = append(appendRow(line[:0], columns, values), '\n')
		_, err := w.Write(line)
		return err
	})
	return errors.Join(err, w.Flush())
}

// askTable prints the rows when all are there.
func (f *queryFlags) askTable(ctx context.Context, std streams, path string, kind outputFormat) error {
	r := report{}
	rows := []json.RawMessage{}
	err := archive.Query(ctx, path, f.sql, func(columns []string, values []any) error {
		r.header = columns
		cells := make([]string, len(values))
		for i, v := range values {
			cells[i] = cell(v)
		}
		r.rows = append(r.rows, cells)
		rows = append(rows, appendRow(nil, columns, values))
		return nil
	})
	if err != nil {
		return err
	}
	r.document = rows
	return kind.write(std.out, r)
}

// cell is a value as text.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []byte:
		return fmt.Sprintf("x'%X'", v)
	case string:
		return v
	}
	return fmt.Sprint(v)
}

// appendRow appends a row as an object, its members in the order of the columns.
// A BLOB stands as {"base64": …}.
func appendRow(dst []byte, columns []string, values []any) []byte {
	sep := byte('{')
	for i, name := range columns {
		dst = mqttetl.AppendJSONString(append(dst, sep), []byte(name))
		dst = append(dst, ':')
		sep = ','
		switch v := values[i].(type) {
		case nil:
			dst = append(dst, "null"...)
		case int64:
			dst = strconv.AppendInt(dst, v, 10)
		case string:
			dst = mqttetl.AppendJSONString(dst, []byte(v))
		case []byte:
			dst = append(dst, `{"base64":"`...)
			dst = append(base64.StdEncoding.AppendEncode(dst, v), `"}`...)
		default:
			text, err := json.Marshal(v)
			if err != nil { // a REAL that JSON has no word for
				text = []byte("null")
			}
			dst = append(dst, text...)
		}
	}
	if len(columns) == 0 {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}
