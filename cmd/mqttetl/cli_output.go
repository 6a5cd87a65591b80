package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/internal/visible"
)

// A report is what a command prints: a document for programs and, from the
// same facts, rows for people.
type report struct {
	document any
	header   []string
	rows     [][]string
}

// outputFormat is the value of -o; "" means: a table on a terminal, NDJSON in a pipe.
type outputFormat string

var outputFormats = []string{"json", "ndjson", "csv", "table"}

func outputFlag(cmd *cobra.Command, f *outputFormat) {
	cmd.Flags().VarP(f, "output", "o", "output format: "+strings.Join(outputFormats, ", ")+" (default: table on a terminal, ndjson in a pipe)")
}

func (f *outputFormat) String() string { return string(*f) }
func (f *outputFormat) Type() string   { return "format" }

func (f *outputFormat) Set(s string) error {
	if !slices.Contains(outputFormats, s) {
		return fmt.Errorf("must be one of %s", strings.Join(outputFormats, ", "))
	}
	*f = outputFormat(s)
	return nil
}

// write prints r to w.
func (f outputFormat) write(w io.Writer, r report) error {
	if f == "" {
		f = "ndjson"
		if isTerminal(w) {
			f = "table"
		}
	}
	switch f {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r.document)
	case "ndjson":
		return json.NewEncoder(w).Encode(r.document)
	case "csv":
		c := csv.NewWriter(w)
		return errors.Join(c.Write(r.header), c.WriteAll(r.rows))
	}
	_, err := fmt.Fprintln(w, renderTable(r))
	return err
}

// renderTable draws rows without colour, so that there is none to switch off.
func renderTable(r report) string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.AppendHeader(tableRow(r.header))
	for _, row := range r.rows {
		t.AppendRow(tableRow(row))
	}
	return t.Render()
}

// tableRow makes the cells such that neither a terminal nor the table obeys what they hold.
func tableRow(cells []string) table.Row {
	row := make(table.Row, len(cells))
	for i, c := range cells {
		row[i] = visible.Line(c)
	}
	return row
}

// isTerminal tells whether w is a terminal: only a terminal has a window size.
func isTerminal(w io.Writer) bool {
	f, ok := file(w)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// bold marks s on a terminal that wants colour (https://no-color.org).
func bold(w io.Writer, s string) string {
	if !isTerminal(w) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return s
	}
	return "\x1b[1m" + s + "\x1b[0m"
}
