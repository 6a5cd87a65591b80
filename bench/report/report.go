// Package report presents the results of mqttetl bench: as a table for the
// terminal, as JSON and CSV for programs, as one HTML file with everything that
// a reader needs to believe and to repeat them, and as what has changed since
// an earlier run.
//
// Its invariant: cases whose acknowledgements are worth different things never
// stand in one list, and what was lost, duplicated or reordered stands beside
// every rate, also when it is nothing.
package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/bench/compare"
	"github.com/mqttetl/mqttetl/internal/visible"
)

// JSON writes r in the form that Read reads.
func JSON(w io.Writer, r *compare.Report) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// ErrNotReport: the bytes are no report of mqttetl bench, or one of a schema
// that is not compare.Schema.
var ErrNotReport = errors.New("not a report of mqttetl bench -o json")

// Read reads what JSON has written. Fields that it does not know are skipped.
func Read(r io.Reader) (*compare.Report, error) {
	var report compare.Report
	d := json.NewDecoder(r)
	if err := d.Decode(&report); err != nil {
		return nil, mqttetl.WithHint(fmt.Errorf("%w: %w", ErrNotReport, err), "`mqttetl bench -o json > FILE` writes one")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more follows behind it", ErrNotReport)
	}
	if report.Schema != compare.Schema {
		return nil, fmt.Errorf("%w: its schema is %d, this program reads %d", ErrNotReport, report.Schema, compare.Schema)
	}
	return &report, nil
}

// group is cases that may be compared with one another: what is asked of them
// and what their acknowledgements are worth is the same. They stand in the
// order of the report, unranked.
type group struct {
	Mode       compare.Mode
	Offered    float64
	Durability compare.Durability
	Shape      string // what the messages are, where that varies in the report
	Cases      []*compare.Case
}

// groups sorts the cases by mode, then by durability.
func groups(r *compare.Report) (all []*group) {
	one := common(r)
	for _, mode := range []compare.Mode{compare.Throughput, compare.Latency} {
		for _, class := range classes(r) {
			for i := range r.Cases {
				c := &r.Cases[i]
				if c.Mode != mode || c.Durability.Class != class {
					continue
				}
				g := group{Mode: mode, Offered: c.Offered, Durability: c.Durability}
				if one == "" && class != compare.Instrument {
					g.Shape = shape(c)
				}
				at := slices.IndexFunc(all, func(o *group) bool { return o.same(&g) })
				if at < 0 {
					all, at = append(all, &g), len(all)
				}
				all[at].Cases = append(all[at].Cases, c)
			}
		}
	}
	return all
}

// classes are those that a report shows, and behind them what it does not know.
func classes(r *compare.Report) []compare.Class {
	all := slices.Clone(compare.Classes)
	for _, c := range r.Cases {
		if !slices.Contains(all, c.Durability.Class) {
			all = append(all, c.Durability.Class)
		}
	}
	return all
}

func (g *group) same(o *group) bool {
	if g.Mode != o.Mode || g.Offered != o.Offered || g.Durability.Class != o.Durability.Class {
		return false
	}
	return g.Durability.Text == o.Durability.Text && g.Shape == o.Shape
}

// common is the shape of all cases but those of the instrument, "" if they differ.
func common(r *compare.Report) (one string) {
	for i := range r.Cases {
		c := &r.Cases[i]
		if s := shape(c); c.Durability.Class != compare.Instrument && s != one {
			if one != "" {
				return ""
			}
			one = s
		}
	}
	return one
}

// shape is what has to be the same for two cases to be comparable, beside what
// is promised. In flight is not: a synchronous publisher has one.
func shape(c *compare.Case) string {
	s := fmt.Sprintf("%s bytes, %s", grouped(float64(c.Size)), c.Fan)
	if c.Topics > 1 {
		s += fmt.Sprintf(", %d topics", c.Topics)
	}
	return s
}

// Title names the group by what its acknowledgements are worth.
func (g *group) Title() string {
	title := visible.Text(cmp.Or(g.Durability.Text, string(g.Durability.Class), "durability unknown"))
	switch g.Durability.Class {
	case compare.Instrument:
		title = "The instrument: " + title
	case compare.Unknown:
		title = "Durability unknown: " + title
	}
	title = strings.ToUpper(title[:1]) + title[1:]
	if g.Shape != "" {
		title += "; " + g.Shape
	}
	return title
}

// How says how the group was measured.
func (g *group) How() string {
	if g.Mode == compare.Latency {
		return fmt.Sprintf("open loop at %s messages/s", grouped(g.Offered))
	}
	return "as fast as it goes"
}

// label names a case within its group: without the durability, which the group
// says, but with what a sweep varies.
func label(c *compare.Case) string {
	name := visible.Text(strings.TrimSuffix(c.Name, ": "+c.Durability.Text))
	for part := range strings.SplitSeq(c.ID, "/") {
		if key, value, ok := strings.Cut(part, "="); ok && key != "rate" {
			name += ", " + key + " " + value
		}
	}
	return name
}

// marks are what a reader must know of a case before its rates.
func marks(c *compare.Case) (m []string) {
	s := &c.Summary
	if c.Loss || s.Lost > 0 {
		m = append(m, "LOSS")
	}
	if s.Duplicated > 0 {
		m = append(m, "duplicates")
	}
	if s.Reordered > 0 {
		m = append(m, "reordered")
	}
	if c.Disagrees {
		m = append(m, "server counts otherwise")
	}
	if refused := total(c, func(r *compare.Round) uint64 { return r.Refused }); refused > 0 {
		m = append(m, fmt.Sprintf("%d refused", refused))
	}
	if foreign := total(c, func(r *compare.Round) uint64 { return r.Foreign }); foreign > 0 {
		m = append(m, fmt.Sprintf("%d foreign", foreign))
	}
	switch {
	case len(c.Rounds) == 0:
		m = append(m, "not measured")
	case c.Incomplete && len(c.Rounds) == 1:
		m = append(m, "only 1 round")
	case c.Incomplete:
		m = append(m, fmt.Sprintf("only %d rounds", len(c.Rounds)))
	}
	return m
}

// total is a number of all rounds together.
func total(c *compare.Case, of func(*compare.Round) uint64) (sum uint64) {
	for i := range c.Rounds {
		sum += of(&c.Rounds[i])
	}
	return sum
}
