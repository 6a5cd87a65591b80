package report

import (
	"encoding/csv"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/mqttetl/mqttetl/bench/compare"
)

// column is one of the CSV form: its name with the unit, and its value in a
// case ("all" rounds together) or in a round.
type column struct {
	name  string
	all   func(*compare.Case) string
	round func(*compare.Case, *compare.Round) string
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
func count(v uint64) string   { return strconv.FormatUint(v, 10) }

// median is empty where nothing was measured.
func median(s compare.Spread) string {
	if s.N == 0 {
		return ""
	}
	return number(s.Median)
}

// ofCase is a column that is the same in all rounds.
func ofCase(name string, f func(*compare.Case) string) column {
	return column{name, f, func(c *compare.Case, _ *compare.Round) string { return f(c) }}
}

// ofSpread is a column with a median in the row of all rounds.
func ofSpread(name string, all func(*compare.Summary) compare.Spread, round func(*compare.Round) float64) column {
	return column{name, func(c *compare.Case) string { return median(all(&c.Summary)) },
		func(_ *compare.Case, r *compare.Round) string { return number(round(r)) }}
}

// ofSum is a column that adds up over the rounds.
func ofSum(name string, f func(*compare.Round) uint64) column {
	return column{name, func(c *compare.Case) string { return count(total(c, f)) },
		func(_ *compare.Case, r *compare.Round) string { return count(f(r)) }}
}

// ofLatency are the columns of a distribution; empty where it has none.
func ofLatency(prefix string, all func(*compare.Summary) compare.Quantiles, round func(*compare.Round) compare.Quantiles) (columns []column) {
	for _, q := range []struct {
		name string
		of   func(compare.Quantiles) time.Duration
	}{
		{"p50", func(q compare.Quantiles) time.Duration { return q.P50 }}, {"p90", func(q compare.Quantiles) time.Duration { return q.P90 }},
		{"p99", func(q compare.Quantiles) time.Duration { return q.P99 }}, {"p999", func(q compare.Quantiles) time.Duration { return q.P999 }},
		{"max", func(q compare.Quantiles) time.Duration { return q.Max }},
	} {
		text := func(v compare.Quantiles) string {
			if v.Count == 0 {
				return ""
			}
			return strconv.FormatInt(q.of(v).Nanoseconds(), 10)
		}
		columns = append(columns, column{prefix + "_" + q.name + "_ns",
			func(c *compare.Case) string { return text(all(&c.Summary)) },
			func(_ *compare.Case, r *compare.Round) string { return text(round(r)) }})
	}
	return columns
}

// columns are those of the CSV form behind id and round.
func columns() []column {
	list := []column{
		ofCase("name", func(c *compare.Case) string { return c.Name }),
		ofCase("durability_class", func(c *compare.Case) string { return string(c.Durability.Class) }),
		ofCase("durability", func(c *compare.Case) string { return c.Durability.Text }),
		ofCase("mode", func(c *compare.Case) string { return string(c.Mode) }),
		ofCase("offered_per_s", func(c *compare.Case) string { return number(c.Offered) }),
		ofCase("size_bytes", func(c *compare.Case) string { return strconv.Itoa(c.Size) }),
		ofCase("inflight", func(c *compare.Case) string { return strconv.Itoa(c.Inflight) }),
		ofCase("publishers", func(c *compare.Case) string { return strconv.Itoa(c.Publishers) }),
		ofCase("subscribers", func(c *compare.Case) string { return strconv.Itoa(c.Subscribers) }),
		ofCase("topics", func(c *compare.Case) string { return strconv.Itoa(c.Topics) }),
		ofSpread("published_per_s", func(s *compare.Summary) compare.Spread { return s.PublishRate }, func(r *compare.Round) float64 { return r.PublishRate }),
		ofSpread("delivered_per_s", func(s *compare.Summary) compare.Spread { return s.DeliveredRate }, func(r *compare.Round) float64 { return r.DeliveredRate }),
		ofSum("sent", func(r *compare.Round) uint64 { return r.Sent }),
		ofSum("confirmed", func(r *compare.Round) uint64 { return r.Confirmed }),
		ofSum("refused", func(r *compare.Round) uint64 { return r.Refused }),
		ofSum("expected", func(r *compare.Round) uint64 { return r.Expected }),
		ofSum("delivered", func(r *compare.Round) uint64 { return r.Delivered }),
		ofSum("lost", func(r *compare.Round) uint64 { return r.Lost }),
		ofSum("duplicated", func(r *compare.Round) uint64 { return r.Duplicated }),
		ofSum("reordered", func(r *compare.Round) uint64 { return r.Reordered }),
		ofSum("foreign", func(r *compare.Round) uint64 { return r.Foreign }),
		{"server_counts_agree",
			func(c *compare.Case) string { return strconv.FormatBool(!c.Disagrees) },
			func(_ *compare.Case, r *compare.Round) string { return strconv.FormatBool(r.Agrees) }},
		{"client_cpu_us", func(c *compare.Case) string { return median(c.Summary.ClientCPU) }, func(_ *compare.Case, r *compare.Round) string {
			if r.ClientCPU == nil {
				return ""
			}
			return number(*r.ClientCPU)
		}},
		{"server_cpu_us", func(c *compare.Case) string { return median(c.Summary.ServerCPU) }, serverCPU},
		ofSpread("wire_bytes", func(s *compare.Summary) compare.Spread { return s.WireBytes }, func(r *compare.Round) float64 { return r.WireBytes }),
		ofSpread("allocs", func(s *compare.Summary) compare.Spread { return s.Allocs }, func(r *compare.Round) float64 { return r.Allocs }),
	}
	list = append(list, ofLatency("end_to_end", func(s *compare.Summary) compare.Quantiles { return s.EndToEnd.Quantiles }, func(r *compare.Round) compare.Quantiles { return r.EndToEnd })...)
	list = append(list, ofLatency("confirm", func(s *compare.Summary) compare.Quantiles { return s.Confirm.Quantiles }, func(r *compare.Round) compare.Quantiles { return r.Confirm })...)
	return append(list, ofCase("error", func(c *compare.Case) string { return c.Error }))
}

// serverCPU is that of all servers of the case, empty if one is not known.
func serverCPU(c *compare.Case, r *compare.Round) string {
	sum := 0.0
	for _, v := range r.ServerCPU {
		sum += v
	}
	if len(r.ServerCPU) < len(c.Servers) || len(c.Servers) == 0 {
		return ""
	}
	return number(sum)
}

// CSV writes a row for each case, with "all" as its round and medians, sums and
// the distribution over all rounds in it, and one for each round of it. What
// was not measured is empty.
func CSV(w io.Writer, r *compare.Report) error {
	list := columns()
	row := []string{"case", "round"}
	for _, c := range list {
		row = append(row, c.name)
	}
	out := csv.NewWriter(w)
	errs := []error{out.Write(row)}
	for i := range r.Cases {
		c := &r.Cases[i]
		row = append(row[:0], c.ID, "all")
		for _, col := range list {
			row = append(row, col.all(c))
		}
		errs = append(errs, out.Write(row))
		for j := range c.Rounds {
			row = append(row[:0], c.ID, strconv.Itoa(c.Rounds[j].Round))
			for _, col := range list {
				row = append(row, col.round(c, &c.Rounds[j]))
			}
			errs = append(errs, out.Write(row))
		}
	}
	out.Flush()
	return errors.Join(append(errs, out.Error())...)
}
