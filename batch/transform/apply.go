package transform

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Options of an Applier.
type Options struct {
	Objects      bool // make the objects of routes that publish, and not their rows
	Readings     bool // find the numbers of every message, routes or not
	ReadingsText bool // of them also text that is a number, "19.6"

	Births Births // what Sparkplug routes remember from before; nil: nothing, and what they learn stays in memory
	// Retry: records that failed in their turn are tried again. Sparkplug takes
	// the births known now, and Births does not change.
	Retry bool
	// NoSuspend: no route is suspended, however long its jq programs take. For
	// what must try every record, and may take its time.
	NoSuspend bool

	TimeLimit time.Duration // 0: TimeLimit
	works     bool          // it is the worker of another Applier
}

// Applier applies routes to one record after the other and gathers what they
// make until Reset. It is for one goroutine. Routes with jq are applied by a
// process of its own, from the first record of them until Close.
type Applier struct {
	// Rows are those of Set.Tables, of the same index. Their text may be that of
	// the records.
	Rows     []store.Rows
	Objects  []Object
	Readings []store.Reading
	Failures []Failure
	Unborn   []Unborn
	// Notes say what a route has read although something was wrong with it: the
	// first of each kind since the Applier was made.
	Notes []Note

	set    *Set
	o      Options
	routes []working
	topics map[string][]match
	known  int // bytes of topics
	marred uint64
	load   int // bytes gathered, about
	limit  *deadline
	only   *Part // during ApplyPart
	walk   *walker
	job    job
	notes  [kinds]string // of the job, if it has noted something
	births *births
	begun  time.Time // of the record at hand, for the route at hand; zero: not known

	worker *worker          // nil: no route needs one
	inTurn bool             // one record after the other, because Sparkplug learns from them
	coming []mqttetl.Record // not given to the worker yet
	asked  mqttetl.Seq      // given to it
	early  job              // to give it something
	rec    mqttetl.Record   // of a worker
}

// match is a route that takes a topic, with the texts of the topic's names.
type match struct {
	w         *working
	names     []string
	subject   string
	variables []any // for jq
}

// working is a route with what one Applier needs for it.
type working struct {
	*route
	decoder   decode.Decoder
	extractor *decode.Extractor
	inflater  *decode.Inflater // nil: payloads are not compressed
	found     []decode.Value
	rows      *store.Rows // where its rows go
	stats     Stats
	memory    *memory   // nil: no Sparkplug
	index     int       // of Set.routes
	remote    bool      // the worker applies it
	strikes   int       // records in a row that took too long, or ended the worker
	slow      spent     // by slow records
	lazy      spent     // by those that are not so slow
	watch     int       // so many records are timed one by one
	until     time.Time // suspended
	why       string    // what was slow about the last of these records
	noted     [kinds]bool
}

// Bounds of the memory of which routes a topic has.
const (
	maxTopics     = 100_000
	maxTopicBytes = 16 << 20
)

// Applier makes one. The error is that of a decoder whose files have changed
// since Compile.
func (s *Set) Applier(o Options) (*Applier, error) {
	if o.TimeLimit == 0 {
		o.TimeLimit = TimeLimit
	}
	a := &Applier{set: s, o: o, topics: map[string][]match{}, limit: newDeadline(o.TimeLimit), walk: newWalker(), births: newBirths(o.Births)}
	a.Rows = make([]store.Rows, len(s.tables))
	for i := range s.tables {
		a.Rows[i].Table = &s.tables[i]
	}
	for i, r := range s.routes {
		w := working{route: r, stats: Stats{Route: r.Name}, index: i, remote: !o.works && r.runsJQ()}
		if w.remote && a.worker == nil {
			a.worker = &worker{greeting: greeting{thisBuild(), s.Routes(), o.Objects, o.TimeLimit}}
		}
		a.inTurn = a.inTurn || w.remote && r.Decode == "sparkplug_b"
		w.rows = &store.Rows{Table: r.own()}
		if r.table >= 0 {
			w.rows = &a.Rows[r.table]
		}
		var memory decode.Births
		if r.Decode == "sparkplug_b" && !r.decoded {
			w.memory = a.births.memoryOf(r.Name)
			memory = w.memory
		}
		var err error
		if w.decoder, err = r.decoder(memory, o.Retry, a.job.mended, a.late); err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Name, err)
		}
		if r.inflate != "" && !r.decoded {
			w.inflater = decode.NewInflater(r.inflate)
		}
		if r.plain {
			w.extractor = decode.NewExtractor(r.paths)
			w.found = make([]decode.Value, len(r.paths))
		}
		a.routes = append(a.routes, w)
	}
	return a, nil
}

// own is the table of a route that has none: its columns, for what it publishes.
func (r *route) own() *store.Table {
	t := &store.Table{}
	for _, n := range r.pattern.names {
		t.Columns = append(t.Columns, store.Column{Name: n, Type: store.Text})
	}
	for _, c := range r.columns {
		t.Columns = append(t.Columns, store.Column{Name: c.Name, Type: c.Type})
	}
	return t
}

// Births are what Sparkplug routes have learned, and forgotten, since the last
// call. It belongs into Options.Births before the next record is applied: into the
// archive together with the rows.
func (a *Applier) Births() []store.Birth {
	return a.births.take()
}

// Err is why Options.Births could not be asked. What was made since is not to be
// used, nor the Applier.
func (a *Applier) Err() error { return a.births.err }

// Reset forgets what was gathered.
func (a *Applier) Reset() {
	for i := range a.Rows {
		a.Rows[i].Truncate(0)
	}
	clear(a.Objects)
	clear(a.Failures)
	a.Objects, a.Readings, a.Failures = a.Objects[:0], a.Readings[:0], a.Failures[:0]
	a.Unborn, a.Notes = a.Unborn[:0], a.Notes[:0]
	a.walk.reset()
	a.load = 0
}

// fullLoad is more than a few thousand usual messages make.
const fullLoad = 16 << 20

// Full says that so much has been gathered that it should be taken, and Reset.
func (a *Applier) Full() bool { return a.load+a.births.pending > fullLoad }

// Stats are those of all routes, in their order, and of readings.
func (a *Applier) Stats() []Stats {
	list := make([]Stats, len(a.routes))
	for i := range a.routes {
		list[i] = a.routes[i].stats
		if m := a.routes[i].memory; m != nil {
			list[i].SeqGaps = m.gaps
		}
	}
	if a.o.Readings {
		list = append(list, a.walk.stats)
	}
	return list
}

// Marred counts the records that a route could use although something was wrong with
// them: those of Mended and Unset of all routes.
func (a *Applier) Marred() uint64 { return a.marred }

// Apply adds what the routes make of the record. What they cannot is a Failure.
func (a *Applier) Apply(rec *mqttetl.Record) {
	matches := a.matches(rec.Topic)
	for i := range matches {
		if m := &matches[i]; a.takes(m, rec) {
			a.timed(m, rec)
		}
	}
	if a.o.Readings {
		before := len(a.Readings)
		a.readings(rec)
		a.load += 128*(len(a.Readings)-before) + len(a.walk.paths) - a.walk.start
	}
}

func (a *Applier) matches(topic []byte) []match {
	matches, ok := a.topics[string(topic)]
	if !ok {
		matches = a.match(string(topic))
	}
	return matches
}

// takes says whether the route looks at the record, of whose topic it is.
func (a *Applier) takes(m *match, rec *mqttetl.Record) bool {
	return (!a.o.Objects || m.w.Publish != "") && (len(rec.Payload) > 0 || m.w.takesEmpty(rec))
}

// ApplyPart adds what the routes make of some documents of the record.
func (a *Applier) ApplyPart(rec *mqttetl.Record, p Part) {
	a.only = &p
	a.Apply(rec)
	a.only = nil
}

// ApplyLetter adds what the routes make of what the reason of the record's dead
// letter is about: rows of the rest are in the table.
func (a *Applier) ApplyLetter(rec *mqttetl.Record, reason string) {
	if p, ok := ParsePart(reason); ok {
		a.ApplyPart(rec, p)
		return
	}
	a.Apply(rec)
}

// takesEmpty says whether the route looks at an empty payload. It clears a
// retained message, or says nothing, but for Protobuf, where it is a message
// whose fields are all 0.
func (r *route) takesEmpty(rec *mqttetl.Record) bool {
	return r.Empty || r.Decode == "protobuf" && !rec.Flags.Retain()
}

// emptyIsNull: the document of an empty payload is null, since its format has
// no word for it.
func (r *route) emptyIsNull() bool {
	switch r.format() {
	case "text", "raw", "protobuf":
		return false
	}
	return true
}

func (a *Applier) match(topic string) []match {
	var list []match
	for i := range a.routes {
		w := &a.routes[i]
		names, ok := w.pattern.match(topic)
		if !ok || slices.ContainsFunc(w.exclude, func(p pattern) bool { _, ok := p.match(topic); return ok }) {
			continue
		}
		m := match{w: w, names: names, subject: w.subject.fill(names)}
		if !w.plain {
			m.variables = append(m.variables, topic)
			for _, n := range names {
				m.variables = append(m.variables, n)
			}
		}
		list = append(list, m)
	}
	if a.known += len(topic); len(a.topics) >= maxTopics || a.known > maxTopicBytes {
		clear(a.topics)
		a.known = len(topic)
	}
	a.topics[topic] = list
	return list
}

// sample: of the routes that need no jq only every so many records are timed,
// because looking at the clock takes a tenth of such a record's time.
const sample = 64

func (a *Applier) timed(m *match, rec *mqttetl.Record) {
	w := m.w
	factor := time.Duration(1)
	if w.plain && w.watch == 0 {
		if factor = sample; uint64(rec.Seq)%sample != 0 {
			a.begun = time.Time{}
			a.route(m, rec)
			return
		}
	}
	watch := stopwatch{begun: time.Now()}
	if !w.remote { // the worker measures for itself
		watch = startWatch()
	}
	a.begun, a.births.reading = watch.begun, 0
	a.route(m, rec)
	took, used := a.job.took, a.job.took
	if took == 0 {
		took, used = watch.took()
	}
	w.stats.Time += factor * took
	if !a.o.NoSuspend {
		a.weigh(w, used, len(rec.Payload), watch.begun.Add(took))
	}
}

// late says that the record has taken longer than it may. Of a record that was
// not timed from the beginning the time begins when this is asked first.
func (a *Applier) late() bool {
	if a.begun.IsZero() {
		a.begun = time.Now()
	}
	return time.Since(a.begun) > a.o.TimeLimit
}

// slow is the error of a record that is late.
func (a *Applier) slow() error {
	cause := decode.ErrSlow
	if a.culprit(time.Since(a.begun)) == slowJQ {
		cause = errTime
	}
	return fmt.Errorf("%w: more than %v", cause, a.o.TimeLimit)
}

// route applies one route. After an error nothing of what it has made of the
// record remains, but a row of NULLs where it is to be.
func (a *Applier) route(m *match, rec *mqttetl.Record) {
	w := m.w
	rows, objects := w.rows.Len(), len(a.Objects)
	j := &a.job // one of its own would be an allocation a record
	*j = job{a: a, match: m, rec: rec, payload: rec.Payload, row0: rows, only: a.only}
	a.limit.spent = 0
	var err error
	if w.remote {
		var r request
		var answer []byte
		if r, answer, err = j.remotely(); err == nil && answer == nil {
			return
		} else if err == nil {
			if err = a.merge(m, rec, answer, &r); err == nil {
				return
			}
		}
	} else {
		err = j.run()
	}
	a.load += j.size + 32*w.rows.Width()*(w.rows.Len()-rows)
	if j.noted && err == nil {
		j.takeNotes()
	}
	if w.plain && err == nil && j.bad == nil { // no jq: no time to stop
		w.strikes = 0
		w.stats.Rows += uint64(w.rows.Len() - rows)
		j.finish(objects)
		return
	}
	a.limit.end()
	if !a.o.NoSuspend {
		w.strike(err)
	}
	if err != nil {
		w.rows.Truncate(rows)
		a.Objects, j.outputs = a.Objects[:objects], nil // what the map has made before it failed is not the row of NULLs
		if w.OnError == OnErrorNull && !j.undecided {
			j.nulls()
		}
	}
	w.stats.Rows += uint64(w.rows.Len() - rows)
	j.finish(objects)
	part := ""
	if err == nil {
		part, err = j.partly()
	}
	if err == nil {
		err = j.bad
	}
	if err != nil {
		if j.broken != "" { // perhaps why
			err = fmt.Errorf("%w (%s)", err, j.broken)
		}
		u, _ := errors.AsType[*decode.UnbornError](err)
		a.failed(w, rec, err, w.OnError == OnErrorNull, part, u)
	}
}

func (a *Applier) failed(w *working, rec *mqttetl.Record, err error, nulls bool, part string, u *decode.UnbornError) {
	w.stats.Errors++
	a.Failures = append(a.Failures, Failure{w.Name, rec.Seq, err, nulls, part})
	if u != nil && w.Rebirth > 0 {
		a.Unborn = append(a.Unborn, Unborn{rec.Source, u.Group, u.Node, rec.Time, w.Rebirth})
	}
}
