package transform

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/sink/store"
)

// job is one route at work on one record.
type job struct {
	a *Applier
	*match
	rec       *mqttetl.Record
	payload   []byte        // of the record, decompressed
	row0      int           // first row
	bad       error         // with OnErrorNull: the first value that could not be had
	undecided bool          // whether the condition holds was not known when it failed
	size      int           // text in the results
	took      time.Duration // of the worker; 0: it was not asked
	outputs   []any         // of the map, for what is published
	noted     bool          // Applier.notes are of this record
	broken    string        // what the decoder has mended

	only  *Part // nil: all documents
	docs  int   // that the decoder has made
	taken int   // of them
	lost  Part  // of those taken, what could not be used
	why   []error
	of    []int // with only: the document of each row
}

// recovered turns a panic, of a decoder or of jq, into an error of the record:
// the others must go on.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("internal error, please report it: %v", p)
	}
}

// run makes the rows.
func (j *job) run() (err error) {
	defer recovered(&err)
	w := j.w
	if nothing, err := j.unpack(); nothing || err != nil {
		return err
	}
	if w.plain && len(j.payload) > 0 {
		if err := w.extractor.Extract(j.payload, w.found); err == nil {
			return j.plain()
		}
		// The decoder says why it is no JSON, or reads it as something else.
	}
	return cmp.Or(j.decode(j.each), j.ended())
}

// unpack decompresses the payload, and says whether it has nothing in it.
func (j *job) unpack() (nothing bool, err error) {
	w := j.w
	if err := w.isSuspended(); err != nil {
		return false, err
	}
	j.undecided = w.when != nil
	if len(j.payload) > decode.DefaultMaxBytes {
		return false, fmt.Errorf("payload has %d bytes, more than the %d that are decoded", len(j.payload), decode.DefaultMaxBytes)
	}
	if w.inflater != nil && len(j.payload) > 0 && w.inflater.Takes(j.payload) {
		if j.payload, err = w.inflater.Inflate(j.payload); err != nil {
			return false, err
		}
		j.a.load += len(j.payload)
	}
	return len(j.payload) == 0 && !w.takesEmpty(j.rec), nil
}

// decode calls emit with the documents of the payload.
func (j *job) decode(emit func(any) error) error {
	if len(j.payload) == 0 && j.w.emptyIsNull() {
		return emit(nil)
	}
	return j.w.decoder.Decode(sharedString(j.rec.Topic), j.payload, emit)
}

// plain makes the row of a JSON document of which only paths are wanted.
func (j *job) plain() error {
	w := j.w
	if w.when != nil {
		ok, err := w.when.extracted(&w.found[w.when.slot])
		if err != nil || !ok {
			return err
		}
		j.undecided = false
	}
	row := j.row()
	at, null, err := j.rec.Time, false, error(nil)
	if w.at != nil {
		at, null, err = w.clock.json(&w.found[w.at.slot], j.rec.Time)
		at, null, err = j.believe(at, null, err)
	}
	if err := j.time(row, at, null, err); err != nil {
		return err
	}
	for i := range w.columns {
		c := &w.columns[i]
		v, err := fromJSON(&w.found[c.slot], c)
		if err != nil {
			v, err = j.mend(c, err)
		}
		if err != nil {
			if err = j.failed(c, err); err != nil {
				return err
			}
			continue
		}
		row[c.place] = v
		if err := j.count(v); err != nil {
			return err
		}
	}
	return nil
}

// count adds to the size of the results.
func (j *job) count(v store.Value) error {
	if j.size += len(v.Text()); j.size > SizeLimit {
		return errSize
	}
	return nil
}

var errSize = fmt.Errorf("the results are larger than %d bytes", SizeLimit)

// row adds one with the topic's names in it.
func (j *job) row() []store.Value {
	row := j.w.rows.Add(j.rec.Seq)
	for i, place := range j.w.places {
		row[place] = store.StringValue(j.names[i])
	}
	return row
}

// failed is an error of one column: of the record, or with OnErrorNull a NULL.
func (j *job) failed(c *column, err error) error {
	err = fmt.Errorf("column %s: %w", c.Name, err)
	if j.w.OnError != OnErrorNull || errors.Is(err, errTime) {
		return err
	}
	if j.bad == nil {
		j.bad = err
	}
	return nil
}

// time sets the time of a row.
func (j *job) time(row []store.Value, at int64, null bool, err error) error {
	switch {
	case err != nil:
	case !null:
		row[1] = store.IntValue(at)
		return nil
	case j.w.Time.Fallback != FallbackNone:
		row[1] = store.IntValue(j.rec.Time)
		return nil
	default:
		err = errors.New("there is no time, and no fallback")
	}
	return j.failed(&timeColumn, err)
}

var timeColumn = column{Column: Column{Name: "time"}}

// document makes what the route makes of one document of the payload.
func (j *job) document(doc any) error {
	w := j.w
	if w.when != nil {
		j.undecided = true
		ok, err := w.when.holds(j.a.limit, doc, j.variables)
		if err != nil {
			return fmt.Errorf("when: %w", err)
		}
		j.undecided = false
		if !ok {
			return nil
		}
	}
	if w.mapper == nil {
		return j.item(doc, doc)
	}
	err := w.mapper.run(j.a.limit.begin(), forJQ(doc), j.variables, func(v any) error {
		if v == nil {
			return nil
		}
		return j.item(doc, v)
	})
	if err != nil {
		return fmt.Errorf("map: %w", err)
	}
	return nil
}

// item makes a row of item, which is the document or what the map made of it.
func (j *job) item(doc, item any) error {
	w := j.w
	if n := w.rows.Len() - j.row0; n >= OutputLimit {
		return errOutputs
	} else if n*w.rows.Width() >= valueLimit {
		return errValues
	}
	row := j.row()
	at, null, err := j.rec.Time, false, error(nil)
	switch {
	case w.at != nil:
		var v any
		if v, _, err = j.get(w.at, doc); err == nil {
			at, null, err = w.clock.value(v, j.rec.Time)
			at, null, err = j.believe(at, null, err)
		}
	case w.atField:
		if m, ok := item.(map[string]any); ok && m["time"] != nil {
			at, null, err = w.clock.value(m["time"], j.rec.Time)
			at, null, err = j.believe(at, null, err)
		}
	}
	if err := j.time(row, at, null, err); err != nil {
		return err
	}
	for i := range w.columns {
		c := &w.columns[i]
		v, ok, err := j.get(c, item)
		if err == nil && !ok && !c.path.Optional() {
			err = errNowhere(c.path.String())
		}
		if c.exact {
			v = j.exact(v)
		}
		if err == nil {
			row[c.place], err = convert(v, c.Type)
		}
		if err != nil {
			row[c.place], err = j.mend(c, err)
		}
		if err != nil {
			if err = j.failed(c, err); err != nil {
				return err
			}
			row[c.place] = store.Value{}
		}
		if err := j.count(row[c.place]); err != nil {
			return err
		}
	}
	if w.mapper != nil && j.a.o.Objects {
		j.outputs = append(j.outputs, item)
	}
	return nil
}

// get follows the path of a column, or runs its jq. ok is false where a path
// leads nowhere.
func (j *job) get(c *column, doc any) (v any, ok bool, err error) {
	if c.other {
		v, _, err := c.path.Find(doc)
		if err == nil && !truth(v) {
			v = c.otherwise
		}
		return forJQ(v), true, err
	}
	if c.jq == nil {
		return c.path.Find(doc)
	}
	v, err = c.jq.first(j.a.limit.begin(), forJQ(doc), j.variables)
	return v, true, err
}

// nulls adds the row of a record that nothing could be made of.
func (j *job) nulls() {
	row := j.row()
	if j.w.Time.Fallback != FallbackNone {
		row[1] = store.IntValue(j.rec.Time)
	}
}

// finish makes objects of the rows, or of what the map made, where these are wanted.
func (j *job) finish(objects int) {
	w := j.w
	switch {
	case w.Publish != "" && j.a.o.Objects:
		for i := range w.rows.Len() - j.row0 {
			var body []byte
			if i < len(j.outputs) {
				body = j.object(j.outputs[i])
			} else {
				body = j.object(j.columns(w.rows.Row(j.row0 + i)))
			}
			n := i
			if j.only != nil { // not the number of an object that was published already
				n = OutputLimit*(1+j.of[i]) + i - slices.Index(j.of, j.of[i])
			}
			j.a.Objects = append(j.a.Objects, Object{w.Name, j.rec.Seq, n, j.subject, body})
		}
		w.rows.Truncate(j.row0)
	case w.table < 0:
		w.rows.Truncate(j.row0)
	}
	j.outputs = nil
}

func (j *job) object(v any) []byte {
	p, err := marshal(v)
	if err != nil { // of what jq has made there is none
		p = "null"
	}
	return []byte(p)
}

// columns is a row as an object, without seq, time and the topic's names.
func (j *job) columns(row []store.Value) any {
	m := make(map[string]any, len(j.w.columns))
	for i := range j.w.columns {
		c := &j.w.columns[i]
		switch v := row[c.place].Interface().(type) {
		case int64:
			m[c.Name] = int(v)
		case []byte:
			m[c.Name] = base64.StdEncoding.EncodeToString(v)
		default:
			m[c.Name] = v
		}
	}
	return m
}

// forJQ is doc as jq knows it: byte strings become base64. doc is not changed.
func forJQ(doc any) any {
	if !hasBytes(doc) {
		return doc
	}
	return decode.ForJQ(clone(doc))
}

func hasBytes(doc any) bool {
	switch v := doc.(type) {
	case decode.Bytes:
		return true
	case []any:
		for _, e := range v {
			if hasBytes(e) {
				return true
			}
		}
	case map[string]any:
		for _, e := range v {
			if hasBytes(e) {
				return true
			}
		}
	}
	return false
}

func clone(doc any) any {
	switch v := doc.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = clone(v[i])
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = clone(e)
		}
		return m
	}
	return doc
}
