package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/export"
	"github.com/mqttetl/mqttetl/internal/visible"
)

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
func (f *queryFlags) sum(ctx context.Context, std streams, src export.Source) error {
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
	n := uint64(len(groups))
	return sayNone(std.err, n, f.writeGroups(std.out, groups))
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
		r.rows = append(r.rows, []string{visible.Text(g.Name), strconv.FormatUint(g.Count, 10), strconv.FormatUint(g.Bytes, 10), g.First, g.Last})
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
	return b.String() + "  up to " + hourly(top)
}

// hourly is a number in an hour as a rate, in the unit in which it is at least one.
func hourly(n uint64) string {
	switch {
	case n >= 3600:
		return fmt.Sprintf("%.1f/s", float64(n)/3600)
	case n >= 60:
		return fmt.Sprintf("%.1f/min", float64(n)/60)
	}
	return fmt.Sprintf("%d/h", n)
}
