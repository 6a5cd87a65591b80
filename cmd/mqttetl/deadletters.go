package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/export"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/spool"
	"github.com/mqttetl/mqttetl/internal/visible"
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
					return config.Error{Err: errors.New("there is no archive in the configuration")}
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

var letterColumns = []string{"seq", "time", "topic", "source", "stage", "reason", "failed", "payload"}

func (l *letterList) read(ctx context.Context, path, route string) error {
	var stages []string
	if route != "" {
		stages = []string{mqttetl.TransformStage(route), mqttetl.PublishStage(route)}
	}
	kept := spool.New(l.std.out)
	out := bufio.NewWriterSize(kept, 64<<10)
	var line []byte
	err := archive.EachLetter(ctx, path, &l.sel, stages, func(d *archive.Letter) error {
		l.n++
		if l.counts[d.Stage]++; l.counts[d.Stage] == 1 {
			l.stages = append(l.stages, d.Stage)
		}
		if l.count {
			return nil
		}
		values := valuesOf(d)
		if l.kind != "ndjson" {
			l.add(values)
			return nil
		}
		line = append(appendRow(line[:0], letterColumns, values), '\n')
		_, err := out.Write(line)
		return err
	})
	return spool.End(err, out, kept)
}

// valuesOf are those of letterColumns; what the archive does not have is nil.
func valuesOf(d *archive.Letter) []any {
	values := []any{int64(d.Seq), nil, nil, nil, d.Stage, d.Reason, rfc3339(d.Time), d.Payload}
	if d.Message {
		values[1], values[2], values[3] = rfc3339(d.Received), d.Topic, d.Source
	}
	return values
}

func rfc3339(at int64) string { return time.Unix(0, at).UTC().Format(time.RFC3339Nano) }

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
	text := visible.Text(string(p[:min(len(p), 4*width)]))
	if export.Binary(p) {
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
