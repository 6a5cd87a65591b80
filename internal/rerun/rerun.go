// Package rerun applies routes again to what is archived: Table builds a typed
// table anew, Publish publishes again what is a dead letter.
//
// Its invariant: the service may run, and each message is in one of two sets. What
// is archived up to a cursor is made here; everything after it by the service. A
// table changes places with the old one in one transaction, and a dead letter is
// deleted only when what is made of its message is committed or confirmed. What a
// crash interrupts can be resumed.
package rerun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// Table is a typed table that is built anew, see Run.
type Table struct {
	Archive   string            // its path
	Routes    []transform.Route // all that feed the table
	Since     time.Time         // rows of messages that were received before stay as they are; zero: none
	SinceText string            // Since as it was given: a rerun is resumed by the same only
	Resume    bool              // continue an interrupted rerun, if there is one
	Running   bool              // a service fills the archive

	Say      func(string)               // takes lines for people
	Progress func(done, of mqttetl.Seq) // nil: nobody asks
}

// Result is what a rerun of a table has done.
type Result struct {
	Table       string
	Rows        uint64
	Messages    uint64 // that the routes were applied to, this time
	First, Last mqttetl.Seq
	Was, Are    int64 // dead letters, before and now
}

// Run builds the table. It returns nil without an error if there was nothing to
// build, of which Say has been told.
func (t Table) Run(ctx context.Context) (*Result, error) {
	r, err := open(ctx, t)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if done, err := r.begin(ctx); err != nil || done {
		return nil, err
	}
	was, are, err := r.build(ctx)
	if err != nil {
		return nil, err
	}
	return &Result{r.name(), r.rows, r.applied, r.store.State.First, r.store.State.Next - 1, was, are}, r.store.Discard(ctx)
}

// table is a Table at work.
type table struct {
	Table
	store   *archive.Rerun
	reader  *archive.Reader
	set     *transform.Set
	applier *transform.Applier
	births  *archive.Births // nil: no route reads Sparkplug
	stages  []string
	names   []string // of the routes

	swapTime time.Duration
	sel      mqttetl.Selection
	at       mqttetl.Seq // the record that is applied next
	applied  uint64
	rows     uint64
	letters  []mqttetl.DeadLetter
}

// open compiles the routes and opens the archive. close ends what it returns.
func open(ctx context.Context, t Table) (r *table, err error) {
	set, err := transform.Compile(t.Routes)
	if err != nil {
		return nil, config.Error{Err: err}
	}
	r = &table{Table: t, set: set, swapTime: swapTime}
	defer func() {
		if err != nil {
			r.close() // the first error is the one that says why
			r = nil
		}
	}()
	for _, route := range t.Routes {
		r.names = append(r.names, route.Name)
		r.stages = append(r.stages, mqttetl.TransformStage(route.Name))
	}
	r.sel.Topics = set.Filters()
	if r.Progress == nil {
		r.Progress = func(mqttetl.Seq, mqttetl.Seq) {}
	}
	if set.HasBirths() {
		if r.births, err = archive.OpenBirths(); err != nil {
			return r, err
		}
	}
	if r.applier, err = set.Applier(withBirths(transform.Options{NoSuspend: true}, r.births)); err != nil {
		return r, config.Error{Err: err}
	}
	if r.reader, err = archive.OpenReader(t.Archive); err != nil {
		return r, err
	}
	r.store, err = archive.OpenRerun(ctx, t.Archive, set.Tables()[0])
	return r, err
}

// withBirths leaves out a table that is not there.
func withBirths(o transform.Options, births *archive.Births) transform.Options {
	if births != nil {
		o.Births = births
	}
	return o
}

func (r *table) close() {
	if r.applier != nil {
		r.applier.Close()
	}
	if r.births != nil {
		_ = r.births.Close() // it is temporary
	}
	if r.reader != nil {
		_ = r.reader.Close()
	}
	if r.store != nil {
		_ = r.store.Close() // what matters is committed; the last to leave takes the write-ahead log away
	}
}

func (r *table) name() string { return r.set.Tables()[0].Name }

func (r *table) say(format string, args ...any) { r.Say(fmt.Sprintf(format, args...)) }

// begin finds out where to begin, and says what should be known. done: no message
// is selected, or an interrupted rerun had only its old table left to remove.
func (r *table) begin(ctx context.Context) (done bool, err error) {
	if done, err := r.selectsNothing(ctx); err != nil || done {
		return done, err
	}
	if err := r.check(); err != nil {
		return false, err
	}
	id, err := newIdentity(r.Routes, r.SinceText)
	if err != nil {
		return false, err
	}
	if r.Resume {
		if done, err := r.resumes(ctx, id); err != nil || done {
			return done, err
		}
	}
	if r.Resume && r.store.Found {
		err = r.store.Resume()
	} else {
		var first mqttetl.Seq
		if first, err = firstSince(ctx, r.reader, r.Since); err == nil {
			err = r.store.Begin(ctx, archive.RerunState{Routes: id.text(), First: first})
		}
	}
	if err != nil {
		return false, err
	}
	r.at = r.store.State.Next
	if r.set.HasBirths() { // births stand anywhere before
		r.at = 1
	}
	return false, r.store.Keep(ctx, func(rows int64) { r.rows += uint64(rows) })
}

// selectsNothing says so if nothing was received since Since.
func (r *table) selectsNothing(ctx context.Context) (bool, error) {
	if r.Resume || r.Since.IsZero() {
		return false, nil
	}
	first, err := firstSince(ctx, r.reader, r.Since)
	if err != nil {
		return false, err
	}
	cursor, err := r.reader.Cursor()
	if err != nil || first <= cursor {
		return false, err
	}
	r.say("no archived message was received since %s: table %s stays as it is", r.SinceText, r.name())
	return true, nil
}

// resumes compares an interrupted rerun with this one.
func (r *table) resumes(ctx context.Context, id identity) (done bool, err error) {
	switch left, err := r.store.Leftover(); {
	case err != nil:
		return false, err
	case r.store.Found && r.store.State.Routes != id.text():
		return false, id.differs(r.name(), r.store.State.Routes)
	case !r.store.Found && left:
		r.say("table %s has been replaced already", r.name())
		return true, r.store.Discard(ctx)
	case !r.store.Found:
		r.say("no rerun of table %s was interrupted: beginning anew", r.name())
	}
	return false, nil
}

// check compares the table that is there with the one that will be.
func (r *table) check() error {
	changed, exists, err := r.store.Changed()
	if err != nil {
		return err
	}
	if len(changed) > 0 && !r.Since.IsZero() {
		return fmt.Errorf("--since keeps rows of table %s, in which the type of %s is another: rerun all of it", r.name(), strings.Join(changed, ", "))
	}
	if len(changed) > 0 && r.Running {
		return mqttetl.WithHint(fmt.Errorf("table %s: the type of %s changes, and the service fills it as it is", r.name(), strings.Join(changed, ", ")),
			"stop the service, run this again, and start the service with this configuration")
	}
	if !exists && r.Running {
		r.say("the service does not fill table %s yet: what arrives until it is started with this configuration is missing until the next rerun", r.name())
	}
	indexes, err := r.store.Indexes()
	for _, sql := range indexes {
		r.say("is deleted with the old table, make it again: %s;", sql)
	}
	return err
}

// firstSince is the first archived record that was received at that time or
// later; the one after the last if there is none.
func firstSince(ctx context.Context, reader *archive.Reader, since time.Time) (mqttetl.Seq, error) {
	if since.IsZero() {
		return 1, nil
	}
	cursor, err := reader.Cursor()
	if err != nil {
		return 0, err
	}
	recs, _, err := reader.Scan(ctx, &mqttetl.Selection{Since: since}, 1, cursor, nil)
	if errors.Is(err, io.EOF) {
		return cursor + 1, nil
	}
	if err != nil {
		return 0, err
	}
	return recs[0].Seq, nil
}
