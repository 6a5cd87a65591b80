package report

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/mqttetl/mqttetl/bench/compare"
	"github.com/mqttetl/mqttetl/internal/visible"
)

// Rule is when a change is beyond the noise, as Compare tells its readers.
const Rule = `a change is beyond the noise when the ranges of the rounds of both runs (lowest to highest) lie apart even if
each is made twice as wide; with fewer than two rounds in either run nobody can tell`

// Verdict is what a change means.
type Verdict string

// The verdicts.
const (
	Within  Verdict = "within the noise"
	Better  Verdict = "better"
	Worse   Verdict = "worse"
	Untold  Verdict = "too few rounds"
	Neither Verdict = "not comparable"
)

// measure is one number of a case that may change.
type measure struct {
	name   string
	of     func(*compare.Summary) compare.Spread
	text   func(float64) string
	isCost bool // less is better
}

var measures = []measure{
	{"published/s", func(s *compare.Summary) compare.Spread { return s.PublishRate }, rateText, false},
	{"delivered/s", func(s *compare.Summary) compare.Spread { return s.DeliveredRate }, rateText, false},
	{"end to end p50", func(s *compare.Summary) compare.Spread { return s.EndToEndP50 }, took, true},
	{"end to end p99", func(s *compare.Summary) compare.Spread { return s.EndToEndP99 }, took, true},
	{"confirmed p50", func(s *compare.Summary) compare.Spread { return s.ConfirmP50 }, took, true},
	{"confirmed p99", func(s *compare.Summary) compare.Spread { return s.ConfirmP99 }, took, true},
	{"client µs CPU", func(s *compare.Summary) compare.Spread { return s.ClientCPU }, small, true},
	{"server µs CPU", func(s *compare.Summary) compare.Spread { return s.ServerCPU }, small, true},
	{"wire bytes", func(s *compare.Summary) compare.Spread { return s.WireBytes }, small, true},
	{"allocations", func(s *compare.Summary) compare.Spread { return s.Allocs }, small, true},
}

// verdictOf applies Rule.
func verdictOf(was, is compare.Spread, isCost bool) Verdict {
	if was.N < 2 || is.N < 2 {
		return Untold
	}
	low := func(s compare.Spread) float64 { return s.Low - (s.High-s.Low)/2 }
	high := func(s compare.Spread) float64 { return s.High + (s.High-s.Low)/2 }
	switch {
	case low(is) > high(was) == !isCost && (low(is) > high(was) || high(is) < low(was)):
		return Better
	case low(is) > high(was) || high(is) < low(was):
		return Worse
	}
	return Within
}

// Compare writes what has changed from was to is, case by case, and by Rule
// whether it is beyond the noise. Of each case that both have, the publish rate
// (in open loop the median latency) is shown, and every other number that
// changed beyond the noise.
func Compare(w io.Writer, was, is *compare.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "was %s of %s, is %s of %s\n", was.Version, was.Started.Local().Format("2006-01-02 15:04"), is.Version, is.Started.Local().Format("2006-01-02 15:04"))
	for _, d := range differences(was, is) {
		fmt.Fprintf(&b, "  %s\n", d)
	}
	t := newTable("case", "measure", "was", "is", "change", "verdict")
	tally := map[Verdict]int{}
	var apart []string
	for i := range is.Cases {
		c := &is.Cases[i]
		before := find(was, c.ID)
		if before == nil {
			apart = append(apart, c.ID+" is new")
			continue
		}
		if why := incomparable(before, c); why != "" {
			tally[Neither]++
			apart = append(apart, fmt.Sprintf("%s: %s: %s", c.ID, Neither, why))
			continue
		}
		changes(t, before, c, tally)
	}
	for _, c := range was.Cases {
		if find(is, c.ID) == nil {
			apart = append(apart, c.ID+" is gone")
		}
	}
	fmt.Fprintf(&b, "\n%s\n\n", t.Render())
	for _, m := range apart {
		fmt.Fprintln(&b, m)
	}
	fmt.Fprintf(&b, "%d better, %d worse, %d within the noise, %d with too few rounds, %d not comparable\n%s\n",
		tally[Better], tally[Worse], tally[Within], tally[Untold], tally[Neither], Rule)
	_, err := w.Write(visible.Append(nil, []byte(b.String())))
	return err
}

func find(r *compare.Report, id string) *compare.Case {
	for i := range r.Cases {
		if r.Cases[i].ID == id {
			return &r.Cases[i]
		}
	}
	return nil
}

// changes appends the rows of one case.
func changes(t table.Writer, was, is *compare.Case, tally map[Verdict]int) {
	name := is.ID
	first := measures[0].name
	if is.Mode == compare.Latency { // there the rate is given
		first = measures[2].name
	}
	for _, m := range measures {
		a, b := m.of(&was.Summary), m.of(&is.Summary)
		if a.N == 0 || b.N == 0 || a.Median == 0 && b.Median == 0 {
			continue
		}
		verdict := verdictOf(a, b, m.isCost)
		tally[verdict]++
		if m.name != first && (verdict == Within || verdict == Untold) {
			continue
		}
		t.AppendRow(table.Row{name, m.name, ranged(a, m.text), ranged(b, m.text), percent(a.Median, b.Median), verdict})
	}
	for _, n := range []struct {
		name    string
		was, is uint64
	}{{"lost", was.Summary.Lost, is.Summary.Lost}, {"duplicated", was.Summary.Duplicated, is.Summary.Duplicated}, {"reordered", was.Summary.Reordered, is.Summary.Reordered}} {
		if n.was != n.is {
			verdict := Better
			if n.is > n.was {
				verdict = Worse
			}
			tally[verdict]++
			t.AppendRow(table.Row{name, n.name, n.was, n.is, "", verdict})
		}
	}
}

// incomparable says why the numbers of two cases with one id mean different things.
func incomparable(was, is *compare.Case) string {
	switch {
	case was.Durability.Class != is.Durability.Class || was.Durability.Text != is.Durability.Text:
		return fmt.Sprintf("durability was %q, is %q", was.Durability.Text, is.Durability.Text)
	case shape(was) != shape(is) || was.Inflight != is.Inflight:
		return fmt.Sprintf("was %s, %d in flight; is %s, %d in flight", shape(was), was.Inflight, shape(is), is.Inflight)
	case len(was.Rounds) == 0 || len(is.Rounds) == 0:
		return "a run has no round of it"
	}
	return ""
}

func ranged(s compare.Spread, f func(float64) string) string {
	median, between := spread(s, f)
	if between != "" {
		median += " (" + between + ")"
	}
	return median
}

func percent(was, is float64) string {
	if was == 0 {
		return ""
	}
	return fmt.Sprintf("%+.1f %%", (is/was-1)*100)
}

// differences are what else is not the same in the two runs.
func differences(was, is *compare.Report) (all []string) {
	differ := func(what, a, b string) {
		if a != b {
			all = append(all, fmt.Sprintf("%s was %s, is %s", what, a, b))
		}
	}
	m, n := was.Machine, is.Machine
	differ("CPU", fmt.Sprintf("%s, %d cores", m.CPU, m.Cores), fmt.Sprintf("%s, %d cores", n.CPU, n.Cores))
	differ("kernel", m.Kernel, n.Kernel)
	differ("file system", m.FileSystem, n.FileSystem)
	differ("Go", m.Go, n.Go)
	differ("duration", was.Duration.String(), is.Duration.String())
	for _, s := range is.Servers {
		for _, o := range was.Servers {
			if o.ID == s.ID {
				differ(s.ID, o.Kind+" "+o.Version, s.Kind+" "+s.Version)
				if stable(o, was.Run) != stable(s, is.Run) {
					all = append(all, s.ID+": another configuration")
				}
			}
		}
	}
	return all
}

// fleeting is what is another in the configuration of every run.
var fleeting = regexp.MustCompile(`RUN\S*|127\.0\.0\.1:\d+|listener \d+`)

// stable is a server's configuration without what is another in every run.
func stable(s compare.Server, run string) string {
	text := s.Config
	if run != "" {
		text = strings.NewReplacer(run, "RUN", strings.ToUpper(run), "RUN").Replace(text)
	}
	return fleeting.ReplaceAllString(text, "…")
}
