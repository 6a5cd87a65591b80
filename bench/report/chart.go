package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mqttetl/mqttetl/bench/compare"
)

// Sizes of the charts in the units of their viewBox.
const (
	chartWidth  = 820
	valueWidth  = 190 // right of the bars
	letterWidth = 7   // about, of labels
	rowHeight   = 46
	curveHeight = 250
	pieceWidth  = 250
	pieceHeight = 130
)

// tick is a line of a grid with what it stands for.
type tick struct {
	At   float64
	Text string
}

// chart is what all charts have.
type chart struct {
	ID            string
	Title, Desc   string // for those who cannot see it
	Width, Height float64
	Left, Right   float64 // of the plot
	Top, Bottom   float64
	X, Y          []tick
}

// barChart has a row with two bars for each case.
type barChart struct {
	chart
	Rows []barRow
}

// barRow is one case: what was published and what was delivered.
type barRow struct {
	Y                    float64
	Label                string
	Marks                string
	Published, Delivered *rateBar
}

// rateBar is a median with the range of the rounds.
type rateBar struct {
	Y, Width, Low, High, Middle float64
	Text                        string
	TextX                       float64
	Spread                      bool
}

// bars draws the rates of a group, to its own scale from 0.
func bars(id string, g *group) barChart {
	most := 0.0
	for _, c := range g.Cases {
		most = max(most, c.Summary.PublishRate.High, c.Summary.DeliveredRate.High)
	}
	b := barChart{chart: chart{ID: id, Title: "Messages a second: " + g.Title(), Width: chartWidth, Right: chartWidth - valueWidth, Top: 8}}
	for _, c := range g.Cases {
		for _, s := range []string{fitting(label(c)), fitting(strings.Join(marks(c), ", "))} {
			b.Left = max(190, b.Left, float64(utf8.RuneCountInString(s)*letterWidth+20))
		}
	}
	b.Bottom = b.Top + float64(len(g.Cases))*rowHeight
	b.Height = b.Bottom + 24
	if most == 0 {
		most = 1
	}
	step := niceStep(most, 4)
	scale := func(v float64) float64 { return b.Left + v/most*(b.Right-b.Left) }
	for v := 0.0; step > 0 && v <= most; v += step {
		b.X = append(b.X, tick{scale(v), short(v)})
	}
	var said []string
	for i, c := range g.Cases {
		s := &c.Summary
		row := barRow{Y: b.Top + float64(i)*rowHeight, Label: fitting(label(c)), Marks: fitting(strings.Join(marks(c), ", "))}
		row.Published = newBar(s.PublishRate, row.Y+15, b.Left, scale)
		if c.Subscribers > 0 {
			row.Published = newBar(s.PublishRate, row.Y+6, b.Left, scale)
			row.Delivered = newBar(s.DeliveredRate, row.Y+24, b.Left, scale)
		}
		b.Rows = append(b.Rows, row)
		published, between := spread(s.PublishRate, rateText)
		said = append(said, fmt.Sprintf("%s: %s published (%s), %d lost", row.Label, published, between, s.Lost))
	}
	b.Desc = strings.Join(said, ". ")
	return b
}

// mostLetters is what there is room for beside the bars. The tables of the page
// have the whole text.
const mostLetters = 46

func fitting(s string) string {
	if r := []rune(s); len(r) > mostLetters {
		return string(r[:mostLetters-1]) + "…"
	}
	return s
}

func newBar(s compare.Spread, y, left float64, scale func(float64) float64) *rateBar {
	if s.N == 0 {
		return nil
	}
	median, between := spread(s, short)
	b := &rateBar{Y: y, Width: scale(s.Median) - left, Low: scale(s.Low), High: scale(s.High), Middle: y + 7, Text: median, Spread: s.N > 1}
	if between != "" {
		b.Text += "  (" + between + ")"
	}
	b.TextX = max(b.High, left+b.Width) + 8
	return b
}

// niceStep is 1, 2 or 5 times a power of ten, so that about n fit into most.
func niceStep(most float64, n int) float64 {
	if most <= 0 {
		return 0
	}
	raw := most / float64(n)
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, f := range []float64{1, 2, 5} {
		if f*power >= raw {
			return f * power
		}
	}
	return 10 * power
}

// short is a rate for a chart: 1.48 M, 346 k.
func short(v float64) string {
	text := func(v float64) string { return strconv.FormatFloat(significant(v, 3), 'f', -1, 64) }
	switch {
	case v >= 999_500:
		return text(v/1e6) + " M"
	case v >= 9_995:
		return text(v/1e3) + " k"
	}
	return rateText(v)
}

// curveChart is distributions of latencies as HdrHistogram plots them: x is
// -log10(1-q), so that each further nine has the same room; y is logarithmic.
type curveChart struct {
	chart
	What  string
	Lines []line
	YMin  []tick // lines between the decades
}

// line is one case in a chart.
type line struct {
	Style      int // colour and dashes
	Label      string
	Points     string // of a polyline
	KeyX, KeyY float64
}

// curves draws the curve of each case of a group; nil if there is none.
func curves(id, what string, g *group, of func(*compare.Summary) compare.Curve) *curveChart {
	low, high, nines := math.Inf(1), 0.0, 1.0
	for _, c := range g.Cases {
		curve := of(&c.Summary)
		for _, p := range curve.Points {
			low, high = min(low, math.Max(float64(p.Value), 1)), max(high, float64(p.Value))
		}
		if len(curve.Points) > 0 {
			nines = max(nines, math.Log10(float64(max(curve.Count, 10))))
		}
	}
	if high == 0 {
		return nil
	}
	c := &curveChart{What: what, chart: chart{
		ID: id, Title: what + ": " + g.Title() + ", " + g.How(), Width: chartWidth, Left: 64, Right: chartWidth - 36, Top: 12, Bottom: curveHeight,
	}}
	bottom, top := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high*1.001))
	x := func(q float64) float64 { return c.Left + nineCount(q, nines)/nines*(c.Right-c.Left) }
	y := func(ns float64) float64 {
		return c.Bottom - (math.Log10(math.Max(ns, 1))-bottom)/(top-bottom)*(c.Bottom-c.Top)
	}
	c.grid(x, y, nines, bottom, top)
	var said []string
	for _, one := range g.Cases {
		curve := of(&one.Summary)
		if len(curve.Points) == 0 {
			continue
		}
		n := len(c.Lines)
		c.Lines = append(c.Lines, line{
			Style: n % styles, Label: label(one), Points: polyline(curve.Points, x, y),
			KeyX: c.Left + float64(n%2)*340, KeyY: c.Bottom + 52 + float64(n/2)*20,
		})
		said = append(said, fmt.Sprintf("%s: p50 %s, p99 %s, largest %s", label(one), took(float64(curve.P50)), took(float64(curve.P99)), took(float64(curve.Max))))
	}
	c.Height = c.Bottom + 52 + float64((len(c.Lines)+1)/2)*20
	c.Desc = strings.Join(said, ". ")
	return c
}

// styles is how many line styles the style sheet has.
const styles = 6

// nineCount is -log10(1-q) of a percentile, at most most.
func nineCount(percentile, most float64) float64 {
	if percentile >= 100 {
		return most
	}
	return min(most, -math.Log10(1-percentile/100))
}

func (c *curveChart) grid(x, y func(float64) float64, nines, bottom, top float64) {
	c.X = append(c.X, tick{x(0), "0 %"}, tick{x(50), "50 %"})
	for n := 1.0; n <= nines; n++ {
		q := 100 * (1 - math.Pow(10, -n))
		c.X = append(c.X, tick{x(q), strconv.FormatFloat(q, 'f', max(0, int(n)-2), 64) + " %"})
	}
	for d := bottom; d <= top; d++ {
		c.Y = append(c.Y, tick{y(math.Pow(10, d)), took(math.Pow(10, d))})
		for f := 2.0; f < 10 && d < top; f++ {
			c.YMin = append(c.YMin, tick{At: y(f * math.Pow(10, d))})
		}
	}
}

// polyline are points of an SVG polyline, without those that would not be seen.
func polyline(points []compare.Point, x, y func(float64) float64) string {
	var b strings.Builder
	lastX, lastY := math.Inf(-1), math.Inf(-1)
	for i, p := range points {
		px, py := x(p.Percentile), y(float64(p.Value))
		if i < len(points)-1 && math.Abs(px-lastX) < 1 && math.Abs(py-lastY) < 1 {
			continue
		}
		fmt.Fprintf(&b, "%.1f,%.1f ", px, py)
		lastX, lastY = px, py
	}
	return strings.TrimSpace(b.String())
}

// pieceChart is the rates of one case over time, a pair of lines a round.
type pieceChart struct {
	chart
	Label     string
	Published []string // points, a round each
	Delivered []string
}

// pieces draws the rate over time of each case that has samples.
func pieces(id string, g *group) (all []pieceChart) {
	for i, c := range g.Cases {
		most, end := 0.0, 0.0
		for _, r := range c.Rounds {
			for _, s := range r.Samples {
				most, end = max(most, s.Published, s.Delivered), max(end, float64(s.At))
			}
		}
		if end == 0 || most == 0 {
			continue
		}
		p := pieceChart{Label: label(c), chart: chart{
			ID: fmt.Sprintf("%s-%d", id, i), Title: "Rate over time: " + c.Name, Width: pieceWidth, Height: pieceHeight, Left: 44, Right: pieceWidth - 12, Top: 8, Bottom: pieceHeight - 22,
		}}
		p.Desc = fmt.Sprintf("%d rounds of %s, at most %s messages a second", len(c.Rounds), took(end), short(most))
		x := func(ns float64) float64 { return p.Left + ns/end*(p.Right-p.Left) }
		y := func(v float64) float64 { return p.Bottom - v/most*(p.Bottom-p.Top) }
		p.X = []tick{{p.Left, "0"}, {p.Right, took(significant(end, 2))}}
		step := niceStep(most, 3)
		for v := 0.0; v <= most; v += step {
			p.Y = append(p.Y, tick{y(v), short(v)})
		}
		for _, r := range c.Rounds {
			p.Published = append(p.Published, over(r.Samples, x, y, func(s compare.Sample) float64 { return s.Published }))
			if c.Subscribers > 0 {
				p.Delivered = append(p.Delivered, over(r.Samples, x, y, func(s compare.Sample) float64 { return s.Delivered }))
			}
		}
		all = append(all, p)
	}
	return all
}

func over(samples []compare.Sample, x, y func(float64) float64, of func(compare.Sample) float64) string {
	var b strings.Builder
	for _, s := range samples {
		fmt.Fprintf(&b, "%.1f,%.1f ", x(float64(s.At)), y(of(s)))
	}
	return strings.TrimSpace(b.String())
}
