package transform

import (
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// Part is some of the documents of a record, by their numbers from 0: those
// that a route could not use while it could use the others. It stands at the
// beginning of the dead letter's reason, "metrics [1,5-7] of 12: …", so that
// whoever tries the record again takes these and no other.
type Part struct {
	ranges [][2]int
	n      int
}

// add adds a document after those that are in it.
func (p *Part) add(n int) {
	p.n++
	if last := len(p.ranges) - 1; last >= 0 && p.ranges[last][1] == n-1 {
		p.ranges[last][1] = n
		return
	}
	p.ranges = append(p.ranges, [2]int{n, n})
}

// has says whether the document is in it.
func (p *Part) has(n int) bool {
	i := sort.Search(len(p.ranges), func(i int) bool { return p.ranges[i][1] >= n })
	return i < len(p.ranges) && p.ranges[i][0] <= n
}

// maxPart bounds the text of a Part: a few hundred numbers.
const maxPart = 2000

// text names the documents, of so many of a format. ok is false where they are
// too scattered to be named.
func (p *Part) text(format string, of int) (s string, ok bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s [", documentsOf(format))
	for i, r := range p.ranges {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(r[0]))
		if r[1] > r[0] {
			fmt.Fprintf(&b, "-%d", r[1])
		}
		if b.Len() > maxPart {
			return "", false
		}
	}
	fmt.Fprintf(&b, "] of %d", of)
	return b.String(), true
}

// documentsOf is what the documents of a payload are to people.
func documentsOf(format string) string {
	switch format {
	case "sparkplug_b":
		return "metrics"
	case "influx":
		return "lines"
	}
	return "rows"
}

var partOfReason = regexp.MustCompile(`^(?:metrics|lines|rows) \[([0-9,-]+)\] of [0-9]+: `)

// ParsePart finds the documents that a dead letter is about. ok is false where
// it is about the whole record.
func ParsePart(reason string) (p Part, ok bool) {
	m := partOfReason.FindStringSubmatch(reason)
	if m == nil {
		return Part{}, false
	}
	next := 0
	for _, s := range strings.Split(m[1], ",") {
		from, to, isRange := strings.Cut(s, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || first < next || last < first {
			return Part{}, false
		}
		p.ranges = append(p.ranges, [2]int{first, last})
		p.n += last - first + 1
		next = last + 1
	}
	return p, true
}
