package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/mqttetl/mqttetl/bench/compare"
	"github.com/mqttetl/mqttetl/internal/visible"
)

// Table writes r for a terminal, a table for each kind of durability. Bars are
// to the scale of their table. color marks what is bad; the caller decides
// whether the terminal and NO_COLOR want it.
func Table(w io.Writer, r *compare.Report, color bool) error {
	p := painter{color}
	var b strings.Builder
	fmt.Fprintf(&b, "mqttetl bench %s, %s, %s cores %s\n", r.Version, r.Started.Local().Format("2006-01-02 15:04"), grouped(float64(r.Machine.Cores)), visible.Text(r.Machine.CPU))
	if one := common(r); one != "" {
		fmt.Fprintf(&b, "payload %s, %d rounds of %v\n", one, r.Rounds, r.Duration)
	}
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "  %s: %s, %s\n", s.ID, visible.Text(strings.TrimSpace(s.Kind+" "+s.Version)), visible.Text(s.How))
	}
	for _, warning := range warnings(r) {
		fmt.Fprintf(&b, "%s\n", p.bad(visible.Text(warning)))
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", visible.Text(note))
	}
	for _, g := range groups(r) {
		fmt.Fprintf(&b, "\n%s, %s\n", p.strong(g.Title()), g.How())
		if g.Mode == compare.Latency {
			b.WriteString(latencyTable(g, p))
		} else {
			b.WriteString(throughputTable(g, p))
		}
		b.WriteByte('\n')
		for _, c := range g.Cases {
			if c.Error != "" {
				fmt.Fprintf(&b, "%s\n", p.bad(label(c)+": "+visible.Text(c.Error)))
			}
		}
	}
	b.WriteString("\n" + footnote + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

const footnote = `rates are messages/s, medians of the rounds with the lowest and the highest; bars are to the scale of their table;
ratio: published to that of the first case of the table, round by round; µs CPU a message: clients + servers;
tables of different durability are not to be ranked`

// painter colours text, or does not.
type painter struct{ on bool }

func (p painter) paint(s string, c ...text.Color) string {
	if !p.on {
		return s
	}
	return text.Colors(c).EscapeSeq() + s + text.Reset.EscapeSeq()
}

func (p painter) bad(s string) string    { return p.paint(s, text.FgRed, text.Bold) }
func (p painter) strong(s string) string { return p.paint(s, text.Bold) }

// count shows a number that should be 0.
func (p painter) count(n uint64) string {
	if n == 0 {
		return "0"
	}
	return p.bad(grouped(float64(n)))
}

// warnings are what a reader must know before any number.
func warnings(r *compare.Report) (all []string) {
	if r.Interrupted {
		all = append(all, "interrupted: only complete rounds are shown")
	}
	if r.Machine.InMemory {
		all = append(all, "the servers' files are in memory ("+r.Machine.FileSystem+"): synced means nothing here")
	}
	for i := range r.Cases {
		if c := &r.Cases[i]; c.Loss {
			all = append(all, fmt.Sprintf("LOSS: %s lost %s messages: its rates are not to be compared", c.Name, grouped(float64(c.Summary.Lost))))
		}
	}
	return all
}

// newTable has numbers at the right of their columns.
func newTable(header ...string) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options = table.OptionsNoBordersAndSeparators
	t.Style().Format.Header = text.FormatDefault
	row := make(table.Row, len(header))
	var columns []table.ColumnConfig
	for i, h := range header {
		row[i] = h
		if i > 0 && h != "" {
			columns = append(columns, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.AppendHeader(row)
	t.SetColumnConfigs(columns)
	return t
}

func throughputTable(g *group, p painter) string {
	t := newTable("case", "published", "from–to", "", "ratio", "delivered", "p50", "p99", "µs CPU", "lost", "dup", "reord", "")
	most := 0.0
	for _, c := range g.Cases {
		most = max(most, c.Summary.PublishRate.Median)
	}
	for _, c := range g.Cases {
		s := &c.Summary
		published, between := spread(s.PublishRate, rateText)
		delivered, _ := spread(s.DeliveredRate, rateText)
		if c.Subscribers == 0 {
			delivered = none
		}
		t.AppendRow(table.Row{label(c), p.strong(published), between, bar(s.PublishRate.Median, most), ratio(s), delivered,
			quantile(s.EndToEnd.Quantiles, s.EndToEnd.P50), quantile(s.EndToEnd.Quantiles, s.EndToEnd.P99), cpu(s),
			p.count(s.Lost), p.count(s.Duplicated), p.count(s.Reordered), p.bad(strings.Join(marks(c), ", "))})
	}
	return t.Render()
}

// ratio is to the base of the case.
func ratio(s *compare.Summary) string {
	if s.Base == "" || s.Ratio.N == 0 {
		return ""
	}
	return fmt.Sprintf("×%.2f", s.Ratio.Median)
}

// cpu is what a message costs clients and servers, in µs.
func cpu(s *compare.Summary) string {
	client, _ := spread(s.ClientCPU, small)
	server, _ := spread(s.ServerCPU, small)
	return client + " + " + server
}

func latencyTable(g *group, p painter) string {
	t := newTable("case", "p50", "p90", "p99", "p99.9", "max", "confirm p50", "p99", "lost", "dup", "reord", "")
	for _, c := range g.Cases {
		s := &c.Summary
		e, f := s.EndToEnd.Quantiles, s.Confirm.Quantiles
		t.AppendRow(table.Row{label(c), p.strong(quantile(e, e.P50)), quantile(e, e.P90), quantile(e, e.P99), quantile(e, e.P999), quantile(e, e.Max),
			quantile(f, f.P50), quantile(f, f.P99), p.count(s.Lost), p.count(s.Duplicated), p.count(s.Reordered), p.bad(strings.Join(marks(c), ", "))})
	}
	return t.Render()
}

// barWidth is the length of the longest bar in cells.
const barWidth = 20

// bar draws v with eighths of a cell, so long as v is of most.
func bar(v, most float64) string {
	if most <= 0 || v <= 0 {
		return ""
	}
	eighths := max(1, int(v/most*barWidth*8+0.5))
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return s
}
