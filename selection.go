package mqttetl

import (
	"math"
	"slices"
	"time"
)

// Selection says which records are meant: those for which every condition
// holds. The zero Selection means all.
type Selection struct {
	From, To Seq       // the first and the last, both included; 0: open
	Since    time.Time // not before; zero: open
	Until    time.Time // before; zero: open
	Topics   []Filter  // one of them matches; none: any topic
	Sources  []string  // one of them; none: any source
	Limit    uint64    // of the records that fulfil the rest only so many, the first; 0: all
}

// Span is the time of Since and Until in Unix nanoseconds, as a closed range.
// Times that do not fit count as open.
func (s *Selection) Span() (first, last int64) {
	first, last = math.MinInt64, math.MaxInt64
	if fits(s.Since) {
		first = s.Since.UnixNano()
	}
	if fits(s.Until) {
		last = s.Until.UnixNano() - 1
	}
	return first, last
}

// fits: the years that Unix nanoseconds can hold are 1678 to 2261.
func fits(t time.Time) bool { return !t.IsZero() && t.Year() > 1678 && t.Year() < 2262 }

// Matches says whether the record fulfils everything but Limit, which only
// somebody who counts can.
func (s *Selection) Matches(r *Record) bool {
	first, last := s.Span()
	return r.Seq >= s.From && (s.To == 0 || r.Seq <= s.To) &&
		r.Time >= first && r.Time <= last &&
		s.MatchesTopic(r.Topic) && s.MatchesSource(r.Source)
}

// MatchesTopic says whether records of the topic may be meant.
func (s *Selection) MatchesTopic(topic []byte) bool {
	return len(s.Topics) == 0 || slices.ContainsFunc(s.Topics, func(f Filter) bool { return f.Matches(topic) })
}

// MatchesSource says whether records of the source may be meant.
func (s *Selection) MatchesSource(name string) bool {
	return len(s.Sources) == 0 || slices.Contains(s.Sources, name)
}
