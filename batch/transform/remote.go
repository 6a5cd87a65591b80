package transform

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
)

// remoteError is what a worker says of a record.
type remoteError struct {
	text  string
	cause error // errTime, decode.ErrSlow, or nil
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.cause }

// Ahead says which records Apply is called with next, in their order. The worker
// begins with them, so that jq does not wait for the next record, nor it for jq.
// The records must not change until they have been applied, or Ahead is called again.
func (a *Applier) Ahead(recs []mqttetl.Record) {
	if a.worker != nil && !a.inTurn {
		a.coming = recs
		if len(a.worker.queue) == 0 {
			a.asked = 0 // records may come again
		}
		a.goAhead()
	}
}

// goAhead gives the worker as much as it may have. What cannot be asked of it
// is left for Apply to find.
func (a *Applier) goAhead() {
	for len(a.coming) > 0 && !a.worker.full() {
		rec := &a.coming[0]
		a.coming = a.coming[1:]
		if rec.Seq <= a.asked {
			continue
		}
		a.asked = rec.Seq
		matches := a.matches(rec.Topic)
		for i := range matches {
			m := &matches[i]
			if !m.w.remote || !a.takes(m, rec) {
				continue
			}
			a.early, a.begun = job{a: a, match: m, rec: rec, payload: rec.Payload}, time.Time{}
			if r, err := a.early.request(); err == nil && r.frame != nil {
				a.worker.add(r)
			}
		}
	}
	if a.worker.child != nil && a.worker.careful == 0 {
		a.worker.send()
	}
}

// request is what the worker is to do. Without a frame it is nothing.
func (j *job) request() (r request, err error) {
	defer recovered(&err)
	w := j.w
	r = request{seq: j.rec.Seq, route: w.index}
	if err := w.isSuspended(); err != nil {
		return r, err
	}
	body := j.payload
	if handsDocuments(w.Decode) {
		nothing, err := j.unpack()
		if nothing || err != nil {
			return r, err
		}
		begun := time.Now()
		body, r.unborn, err = j.documents()
		if r.decoding = time.Since(begun); err != nil {
			return r, err
		}
	} else if len(body) > decode.DefaultMaxBytes {
		_, err := j.unpack()
		return r, err
	}
	frame, at := beginFrame(j.a.worker.space(len(body) + len(j.rec.Topic) + 64 + 20*j.only.len()))
	r.frame = appendRequest(frame, w.index, j.rec, j.only, body)
	endFrame(r.frame, at)
	return r, nil
}

var errDocuments = fmt.Errorf("the documents of the payload are larger than %d bytes", decode.DefaultMaxBytes)

// documents are those of the payload. Sparkplug has learned from it even if it
// is an error.
func (j *job) documents() (p []byte, unborn *decode.UnbornError, err error) {
	n := 0
	err = j.decode(func(doc any) error {
		if f, ok := doc.(decode.Failed); ok && unborn == nil {
			unborn, _ = errors.AsType[*decode.UnbornError](f.Err)
		}
		if len(p) > decode.DefaultMaxBytes {
			return errDocuments
		}
		if n++; n%lookEvery == 0 && j.a.late() {
			return j.a.slow()
		}
		p = appendDoc(p, doc)
		return nil
	})
	return append(binary.AppendUvarint(nil, uint64(n)), p...), unborn, err
}

// remotely has the worker do the job. An error is one of all of the record, as
// of run. More than that is in the answer.
func (j *job) remotely() (r request, answer []byte, err error) {
	a, w := j.a, j.w
	if err := w.isSuspended(); err != nil {
		a.worker.drop(func(r *request) bool { return r.route == w.index }) // it may be at one of them for long
		return r, nil, err
	}
	begun := time.Now()
	if !a.worker.next(j.rec.Seq, w.index) || a.only != nil {
		if r, err = j.request(); err != nil || r.frame == nil {
			return r, nil, err
		}
		a.worker.drop(func(*request) bool { return true }) // others came than were expected
		a.worker.add(r)
		a.asked = j.rec.Seq
	}
	j.undecided = w.when != nil
	answer, r, err = a.worker.answer()
	if a.worker.low() {
		a.goAhead()
	}
	if err != nil {
		j.took = max(time.Since(begun), deathCost)
		a.limit.spent = j.took
	}
	return r, answer, err
}

// deathCost is what a record that costs a worker its life counts for at least, so
// that a route is suspended for many of them although others come between.
const deathCost = time.Second

// merge takes in an answer.
func (a *Applier) merge(m *match, rec *mqttetl.Record, p []byte, asked *request) error {
	w, r, decoding := m.w, wire{p: p}, asked.decoding
	flags := r.byte()
	a.job.took = decoding + time.Duration(r.uint())
	a.limit.spent = time.Duration(r.uint())
	a.load += int(r.uint()) + len(p)
	w.stats.Rows += r.uint()
	for n := r.count(); n > 0 && r.err == nil; n-- {
		row := w.rows.Add(rec.Seq)
		for i := range row[1:] {
			row[1+i] = r.value()
		}
	}
	for n := r.count(); n > 0 && r.err == nil; n-- {
		a.Objects = append(a.Objects, Object{w.Name, rec.Seq, int(r.uint()), m.subject, slices.Clip(r.text())})
	}
	var cause, failed error
	if flags&outOfTime != 0 {
		cause = errTime
	}
	if flags&slowDecoding != 0 {
		cause = decode.ErrSlow
	}
	if flags&hasFailure != 0 {
		failed = &remoteError{string(r.text()), cause}
		a.failed(w, rec, failed, flags&hasNulls != 0, string(r.text()), asked.unborn)
	}
	if r.err == nil {
		a.mergeNotes(w, rec, flags, &r)
	}
	if !a.o.NoSuspend {
		w.strike(failed)
	}
	return r.err
}

func (a *Applier) mergeNotes(w *working, rec *mqttetl.Record, flags byte, r *wire) {
	var notes [kinds]string
	for n := r.count(); n > 0; n-- {
		if kind := Kind(r.byte()); kind < kinds {
			notes[kind] = string(r.text())
		}
	}
	a.say(w.Name, &w.noted, rec.Seq, &notes)
	if flags&isMended != 0 {
		w.stats.Mended++
	}
	if flags&isUnset != 0 {
		w.stats.Unset++
	}
	if flags&(isMended|isUnset) != 0 {
		a.marred++
	}
}

// Close ends the worker, if there is one. The Applier may be used on.
func (a *Applier) Close() {
	if a.worker != nil {
		a.coming = nil
		a.worker.close()
	}
}
