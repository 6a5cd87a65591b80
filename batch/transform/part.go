package transform

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/mqttetl/mqttetl/batch/decode"
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

// len is how many ranges there are.
func (p *Part) len() int {
	if p == nil {
		return 0
	}
	return len(p.ranges)
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

// lookEvery is how many documents are made between two looks at the clock.
const lookEvery = 16

// each makes what the route makes of one document, of perhaps several. What is
// wrong with it costs the others nothing.
func (j *job) each(doc any) error {
	n := j.docs
	if j.docs++; j.docs%lookEvery == 0 && j.a.late() {
		return j.a.slow()
	}
	if j.only != nil && !j.only.has(n) {
		return nil
	}
	j.taken++
	rows, outputs := j.w.rows.Len(), len(j.outputs)
	j.undecided = j.w.when != nil
	f, failed := doc.(decode.Failed)
	err := f.Err
	if !failed {
		err = j.document(doc)
	}
	if errors.Is(err, errTime) || errors.Is(err, decode.ErrSlow) || errors.Is(err, errOutputs) || errors.Is(err, errValues) || errors.Is(err, errSize) {
		return err
	}
	if err != nil {
		if j.lost.n == OutputLimit {
			return fmt.Errorf("more than %d %s cannot be used: %w", OutputLimit, documentsOf(j.w.format()), err)
		}
		j.w.rows.Truncate(rows)
		j.outputs = j.outputs[:outputs]
		j.lose(n, err)
	}
	for j.only != nil && len(j.of) < j.w.rows.Len()-j.row0 {
		j.of = append(j.of, n)
	}
	return nil
}

// maxWhy is how many reasons a dead letter gives.
const maxWhy = 3

// lose notes that a document cannot be used. With OnErrorNull it has a row all the same.
func (j *job) lose(n int, err error) {
	j.lost.add(n)
	if len(j.why) < maxWhy {
		j.why = append(j.why, err)
	}
	if j.w.OnError != OnErrorNull || j.undecided {
		return
	}
	j.nulls()
	if j.w.mapper != nil && j.a.o.Objects {
		j.outputs = append(j.outputs, j.columns(j.w.rows.Row(j.w.rows.Len()-1)))
	}
}

// ended is the error of a record of which no document could be used.
func (j *job) ended() error {
	switch {
	case j.lost.n == 0:
		return nil
	case j.lost.n == j.taken && j.only == nil:
		return j.why[0]
	}
	if _, ok := j.lost.text(j.w.format(), j.docs); !ok {
		return fmt.Errorf("%d of %d %s, too scattered to be named: %w", j.lost.n, j.docs, documentsOf(j.w.format()), j.why[0])
	}
	return nil
}

// reasons are errors on one line.
type reasons []error

func (r reasons) Error() string {
	var list []string
	for _, err := range r {
		list = append(list, err.Error())
	}
	return strings.Join(list, "; ")
}

func (r reasons) Unwrap() []error { return r }

// partly is the failure of a record of which some documents could not be used.
func (j *job) partly() (text string, err error) {
	if j.lost.n == 0 {
		return "", nil
	}
	text, _ = j.lost.text(j.w.format(), j.docs)
	return text, reasons(slices.Clone(j.why))
}
