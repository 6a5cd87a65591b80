package mqttetl

import (
	"math"
	"slices"
	"time"
)

// Selection selects records: those for which every condition
// holds. The zero Selection means all.
type Selection struct {
	From, To Seq       // the first and the last, both included; 0: open
	Since    time.Time // not before; zero: open
	Until    time.Time // before; zero: open
	Topics   []Filter  // one of them matches; none: any topic
	Sources  []string  // one of them; none: any source
	Limit    uint64    // of the records that fulfil the rest only so many, the first; 0: all
}

// Span is the time of Since and Until in Unix nanoseconds, as a closed range;
// an empty one has first > last.
func (s *Selection) Span() (first, last int64) {
	first, last = math.MinInt64, math.MaxInt64
	if !s.Since.IsZero() {
		first = nanos(s.Since)
	}
	if s.Until.IsZero() {
		return first, last
	}
	if last = nanos(s.Until); last > math.MinInt64 {
		return first, last - 1
	}
	return math.MaxInt64, math.MinInt64
}

// nanos are the Unix nanoseconds of a time; of one beyond the years that these
// can hold, 1677 to 2262, the nearest.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// Matches says whether the record fulfils everything but Limit, which only
// somebody who counts can.
func (s *Selection) Matches(r *Record) bool {
	first, last := s.Span()
	return r.Seq >= s.From && (s.To == 0 || r.Seq <= s.To) &&
		r.Time >= first && r.Time <= last &&
		s.MatchesTopic(r.Topic) && s.MatchesSource(r.Source)
}

// MatchesTopic says whether records of the topic may match.
func (s *Selection) MatchesTopic(topic []byte) bool {
	return len(s.Topics) == 0 || slices.ContainsFunc(s.Topics, func(f Filter) bool { return f.Matches(topic) })
}

// MatchesSource says whether records of the source may match.
func (s *Selection) MatchesSource(name string) bool {
	return len(s.Sources) == 0 || slices.Contains(s.Sources, name)
}
