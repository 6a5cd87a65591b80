package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/format"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// deadLetterFlags say which dead letters are listed.
type deadLetterFlags struct {
	selectionFlags
	route  string
	count  bool
	output outputFormat
}

func newDeadLetters(std streams) *cobra.Command {
	var f deadLetterFlags
	cmd := &cobra.Command{
		Use:   "dead-letters",
		Short: "List the messages that a route or the forwarder could not use, and why",
		Long: `Dead-letters lists the archive's table dead_letters, with topic and payload of the
message. The stage is transform:ROUTE, publish:ROUTE, forward or archive. --since,
--until and the other flags of export select by the message.

After correcting a route, try it again with mqttetl transform rerun; for what could
not be published use transform rerun --publish. The message itself is in the archive.

Exit codes: 0 listed, also if there are none, 65 a damaged archive, 69 nothing has been recorded
yet, 74 an archive that --archive names cannot be read, 78 bad configuration.`,
		Example: `  mqttetl dead-letters -c mqttetl.yaml
  mqttetl dead-letters -c mqttetl.yaml --route temperatures --since 1d
  mqttetl dead-letters --archive backup.db --count`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sel, err := f.selection(time.Now())
			if err != nil {
				return usageError{err, cmd}
			}
			path, cfg := f.archive, (*config.Config)(nil)
			if path == "" {
				if cfg, err = loadStores(f.config); err != nil {
					return err
				}
				if cfg.Archive == nil {
					return configError{errors.New("there is no archive in the configuration")}
				}
				path = cfg.Archive.Path
			}
			if err := checkArchive(path, cfg != nil); err != nil {
				return err
			}
			l := &letterList{sel: sel, kind: f.output, std: std, report: report{document: []json.RawMessage{}}, counts: map[string]uint64{}, count: f.count}
			if l.kind == "" {
				l.kind = "ndjson"
				if isTerminal(std.out) {
					l.kind = "table"
				}
			}
			if err := l.read(cmd.Context(), path, f.route); err != nil {
				return err
			}
			if f.route != "" && l.n == 0 && cfg != nil {
				if _, err := findRoute(cfg, f.route); err != nil {
					return routeError(err, cmd)
				}
			}
			return l.print()
		},
	}
	f.selectionFlags.add(cmd)
	cmd.Flags().StringVar(&f.route, "route", "", "only those of this route")
	cmd.Flags().BoolVar(&f.count, "count", false, "count by stage instead of listing")
	outputFlag(cmd, &f.output)
	return cmd
}

// letterList is dead letters on their way out.
type letterList struct {
	sel    mqttetl.Selection
	kind   outputFormat
	count  bool
	std    streams
	n      uint64
	report report
	stages []string
	counts map[string]uint64
}

// A message may be missing: the log had trimmed it before the archive began.
const lettersQuery = `SELECT d.seq, d.stage, d.reason, d.time, m.time, t.topic, s.name, m.payload FROM dead_letters d
	LEFT JOIN messages m ON m.seq = d.seq LEFT JOIN topics t ON t.id = m.topic_id LEFT JOIN sources s ON s.id = m.source_id
	WHERE d.seq BETWEEN %d AND %d%s ORDER BY d.seq, d.stage`

var letterColumns = []string{"seq", "time", "topic", "source", "stage", "reason", "failed", "payload"}

func (l *letterList) read(ctx context.Context, path, route string) error {
	where := ""
	if route != "" {
		name := strings.ReplaceAll(route, "'", "''")
		where = fmt.Sprintf(` AND d.stage IN ('transform:%s', 'publish:%s')`, name, name)
	}
	to := uint64(1<<63 - 1)
	if l.sel.To != 0 {
		to = uint64(l.sel.To)
	}
	kept := newSpool(l.std.out)
	out := bufio.NewWriterSize(kept, 64<<10)
	var line []byte
	enough := errors.New("enough")
	err := archive.Query(ctx, path, fmt.Sprintf(lettersQuery, l.sel.From, to, where), func(_ []string, v []any) error {
		if !l.means(v) {
			return nil
		}
		l.n++
		stage, _ := v[1].(string)
		if l.counts[stage]++; l.counts[stage] == 1 {
			l.stages = append(l.stages, stage)
		}
		values := []any{v[0], rfc3339(v[4]), v[5], v[6], v[1], v[2], rfc3339(v[3]), v[7]}
		switch {
		case l.count:
		case l.kind == "ndjson":
			line = append(appendRow(line[:0], letterColumns, values), '\n')
			if _, err := out.Write(line); err != nil {
				return err
			}
		default:
			l.add(values)
		}
		if l.sel.Limit > 0 && l.n == l.sel.Limit {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return endOutput(err, out, kept)
}

// means says whether the message is meant.
func (l *letterList) means(v []any) bool {
	seq, _ := v[0].(int64)
	at, known := v[4].(int64)
	if !known {
		return len(l.sel.Topics) == 0 && len(l.sel.Sources) == 0 && l.sel.Since.IsZero() && l.sel.Until.IsZero()
	}
	topic, _ := v[5].(string)
	source, _ := v[6].(string)
	return l.sel.Matches(&mqttetl.Record{Seq: mqttetl.Seq(seq), Time: at, Source: source, Message: mqttetl.Message{Topic: []byte(topic)}})
}

func rfc3339(v any) any {
	at, ok := v.(int64)
	if !ok {
		return nil
	}
	return time.Unix(0, at).UTC().Format(time.RFC3339Nano)
}

func (l *letterList) add(values []any) {
	cells := make([]string, len(values))
	for i, v := range values {
		cells[i] = cell(v)
	}
	if l.kind == "table" {
		payload := []byte(cells[len(cells)-1])
		if b, ok := values[len(values)-1].([]byte); ok {
			payload = b
		}
		cells[len(cells)-1] = shortPayload(payload)
	}
	l.report.rows = append(l.report.rows, cells)
	l.report.document = append(l.report.document.([]json.RawMessage), appendRow(nil, letterColumns, values))
}

// shortPayload is the beginning of a payload, for a terminal.
func shortPayload(p []byte) string {
	const width = 60
	text := visibleText(string(p[:min(len(p), 4*width)]))
	if format.Binary(p) {
		text = fmt.Sprintf("(%d bytes) %x", len(p), p[:min(len(p), width/3)])
	}
	if utf8.RuneCountInString(text) > width {
		text = string([]rune(text)[:width-1]) + "…"
	}
	return text
}

func (l *letterList) print() error {
	l.report.header = letterColumns
	if l.count {
		l.report.header = []string{"stage", "count"}
		for _, stage := range l.stages {
			row := appendRow(nil, l.report.header, []any{stage, int64(l.counts[stage])})
			if l.kind == "ndjson" {
				if _, err := fmt.Fprintf(l.std.out, "%s\n", row); err != nil {
					return err
				}
			}
			l.report.document = append(l.report.document.([]json.RawMessage), row)
			l.report.rows = append(l.report.rows, []string{stage, strconv.FormatUint(l.counts[stage], 10)})
		}
	}
	if l.n == 0 {
		fmt.Fprintln(l.std.err, "no dead letter matches this selection")
	}
	if l.kind == "ndjson" {
		return nil
	}
	return l.kind.write(l.std.out, l.report)
}
