package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/mqttetl/mqttetl/bench/compare"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"count":   func(n uint64) string { return grouped(float64(n)) },
	"bytes":   bytesText,
	"label":   label,
	"marks":   func(c *compare.Case) string { return strings.Join(marks(c), ", ") },
	"rates":   func(s compare.Spread) string { return ranged(s, rateText) },
	"costs":   func(s compare.Spread) string { return ranged(s, small) },
	"ratio":   ratio,
	"ceiling": ceiling,
	"q":       quantile,
	"refused": func(c *compare.Case) uint64 { return total(c, func(r *compare.Round) uint64 { return r.Refused }) },
	"foreign": func(c *compare.Case) uint64 { return total(c, func(r *compare.Round) uint64 { return r.Foreign }) },
	"sent":    func(c *compare.Case) uint64 { return total(c, func(r *compare.Round) uint64 { return r.Sent }) },
	"expected": func(c *compare.Case) uint64 {
		return total(c, func(r *compare.Round) uint64 { return r.Expected })
	},
	"delivered": func(c *compare.Case) uint64 {
		return total(c, func(r *compare.Round) uint64 { return r.Delivered })
	},
	"late": late,
}).Parse(pageText))

// ceiling is which part of what the instrument can do a case needed.
func ceiling(s *compare.Summary) string {
	if s.Ceiling == 0 || s.PublishRate.N == 0 {
		return none
	}
	return fmt.Sprintf("%.0f %% of %s", 100*s.PublishRate.Median/s.Ceiling, short(s.Ceiling))
}

// late is how far behind its schedule the publisher was, in the worst round.
func late(c *compare.Case) string {
	worst := compare.Quantiles{}
	for _, r := range c.Rounds {
		if r.Late.P99 >= worst.P99 {
			worst = r.Late
		}
	}
	return quantile(worst, worst.P99)
}

// section is a group with its charts.
type section struct {
	*group
	Latency bool
	Bars    *barChart
	Curves  []*curveChart
	Pieces  []pieceChart
}

// sections are those of one mode.
func sections(r *compare.Report, mode compare.Mode, withCurves bool) (all []section) {
	for i, g := range groups(r) {
		if g.Mode != mode {
			continue
		}
		s := section{group: g, Latency: mode == compare.Latency}
		id := fmt.Sprintf("g%d", i)
		if mode == compare.Throughput {
			b := bars(id+"-bars", g)
			s.Bars, s.Pieces = &b, pieces(id+"-time", g)
		}
		if withCurves {
			for _, c := range []*curveChart{
				curves(id+"-end-to-end", "End-to-end latency", g, func(s *compare.Summary) compare.Curve { return s.EndToEnd }),
				curves(id+"-confirm", "Latency of the confirmation", g, func(s *compare.Summary) compare.Curve { return s.Confirm }),
			} {
				if c != nil {
					s.Curves = append(s.Curves, c)
				}
			}
		}
		all = append(all, s)
	}
	return all
}

// HTML writes r as one file that needs no other: charts as inline SVG, no
// script, light and dark as the reader's system has it, fit for paper.
func HTML(w io.Writer, r *compare.Report) error {
	open := false
	for _, c := range r.Cases {
		open = open || c.Mode == compare.Latency
	}
	data := struct {
		*compare.Report
		Warnings   []string
		Shape      string
		Throughput []section
		Open       []section
		Cases      []*compare.Case
		Disagree   []*compare.Case
	}{Report: r, Warnings: warnings(r), Shape: common(r)}
	data.Throughput = sections(r, compare.Throughput, !open)
	data.Open = sections(r, compare.Latency, true)
	for _, g := range groups(r) {
		data.Cases = append(data.Cases, g.Cases...)
	}
	for _, c := range data.Cases {
		if c.Disagrees {
			data.Disagree = append(data.Disagree, c)
		}
	}
	return page.Execute(w, data)
}
