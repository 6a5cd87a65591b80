package rerun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// Publish is the dead letters of a route that are published again, see Run.
type Publish struct {
	Archive string // its path
	Route   transform.Route
	Since   time.Time // of the messages; zero: all
	NATS    *config.NATS
}

// Published is what has come of the dead letters.
type Published struct {
	Stage      string
	Gone, Stay int
	Why        string // the first one stays
}

// Run makes the objects of the dead letters again and publishes them.
func (p Publish) Run(ctx context.Context) (done Published, err error) {
	a := &again{ctx: ctx, stage: mqttetl.PublishStage(p.Route.Name)}
	if a.set, err = transform.Compile([]transform.Route{p.Route}); err != nil {
		return done, config.Error{Err: err}
	}
	if a.reader, err = archive.OpenReader(p.Archive); err != nil {
		return done, err
	}
	defer a.reader.Close()
	if a.letters, err = archive.OpenLetters(ctx, p.Archive); err != nil {
		return done, err
	}
	defer a.letters.Close()
	if a.from, err = firstSince(ctx, a.reader, p.Since); err != nil {
		return done, err
	}
	c := pipeline.NATSConfig(p.NATS, a.reader.LogID())
	err = a.run(forward.PublisherConfig{Config: c, Subjects: []string{p.Route.Subjects()}})
	return Published{a.stage, a.gone, a.stay, a.why}, err
}

// again is the records of a route's dead letters as the log of a forward.Publisher,
// and what maps them. A dead letter is deleted when its objects are acknowledged.
//
// For Sparkplug all records of the route are read, since names and types are in
// those before. What still fails is tried once more with the births of all.
type again struct {
	ctx     context.Context
	stage   string
	set     *transform.Set
	sel     mqttetl.Selection // the route's
	reader  *archive.Reader
	letters *archive.Letters
	from    mqttetl.Seq // of the first dead letter that is selected
	mapper  *pipeline.Mapper
	ordered bool // all records of the route are mapped, not only those that are selected

	next mqttetl.Seq // where the next page of dead letters begins
	read mqttetl.Seq // the first record that has not been read
	page map[mqttetl.Seq]*attempt
	list []mqttetl.DeadLetter // the page

	confirmed  mqttetl.Seq
	gone, stay int
	why        string // the first that stays does
}

// attempt is what has come of a dead letter.
type attempt struct {
	reason         string
	mapped, failed bool
}

// Bounds of what is read at a time.
const (
	lettersPage = 1000
	pageBytes   = 16 << 20
)

// run publishes all of them.
func (a *again) run(cfg forward.PublisherConfig) error {
	a.sel.Topics = a.set.Filters()
	var births *archive.Births
	if a.set.HasBirths() {
		var err error
		if births, err = archive.OpenBirths(); err != nil {
			return err
		}
		defer births.Close()
	}
	o := withBirths(transform.Options{Objects: true, NoSuspend: true}, births)
	for {
		applier, err := a.set.Applier(o)
		if err != nil {
			return config.Error{Err: err}
		}
		defer applier.Close()
		a.mapper = pipeline.LetterMapper(applier, births)
		a.ordered = a.set.HasBirths() && !o.Retry
		a.next, a.read, a.page, a.list, a.confirmed, a.stay, a.why = a.from, 1, nil, nil, 0, 0, ""
		p, err := forward.NewPublisher(cfg, a, a)
		if err != nil {
			return config.Error{Err: err}
		}
		if err := p.Drain(a.ctx); err != nil {
			return errors.Join(err, a.dropPublished())
		}
		if !a.ordered || a.stay == 0 {
			return nil
		}
		o.Retry = true
	}
}

// Map makes objects of the selected records. Of the others it learns.
func (a *again) Map(rec *mqttetl.Record) ([]forward.Object, []mqttetl.DeadLetter, error) {
	t := a.page[rec.Seq]
	if t == nil {
		_, _, err := a.mapper.Map(rec)
		return nil, nil, err
	}
	t.mapped = true
	return a.mapper.MapLetter(rec, t.reason)
}

func (a *again) Ahead([]mqttetl.Record)   {}
func (a *again) Settled()                 { a.mapper.Settled() }
func (a *again) Rewind(mqttetl.Seq) error { return nil }
func (a *again) Stored() mqttetl.Seq      { return 0 }

func (a *again) Seek(after mqttetl.Seq) (mqttetl.Seq, error) { return after + 1, nil }
func (a *again) Commit(upTo mqttetl.Seq)                     { a.confirmed = upTo }

func (a *again) DeadLetter(l mqttetl.DeadLetter) {
	if t := a.page[l.Seq]; t != nil {
		t.failed = true
		a.because(l.Reason)
	}
}

func (a *again) because(why string) {
	if a.why == "" {
		a.why = why
	}
}

// dropPublished deletes what is published of the page.
func (a *again) dropPublished() error {
	var done []mqttetl.DeadLetter
	for _, l := range a.list {
		switch t := a.page[l.Seq]; {
		case t.mapped && !t.failed && l.Seq <= a.confirmed:
			done = append(done, l)
			continue
		case !t.mapped:
			a.because(fmt.Sprintf("record %d is not in the archive, or not of the route's topic", l.Seq))
		}
		a.stay++
	}
	a.gone += len(done)
	a.list = nil
	return a.letters.Drop(a.ctx, done)
}

// Next are the next records. All before them are published or stay.
func (a *again) Next(ctx context.Context, _ int) ([]mqttetl.Record, error) {
	for {
		recs, err := a.records(ctx)
		if err != nil || len(recs) > 0 {
			return recs, err
		}
		if err := a.dropPublished(); err != nil {
			return nil, err
		}
		if a.list, err = a.letters.Next(a.stage, a.next, lettersPage); err != nil {
			return nil, err
		}
		if len(a.list) == 0 {
			cursor, err := a.reader.Cursor()
			if err != nil || !a.ordered || a.stay == 0 || a.read > cursor {
				return nil, cmp.Or(err, io.EOF)
			}
			a.next = cursor + 1 // the births that are missing may come there
			continue
		}
		a.page = map[mqttetl.Seq]*attempt{}
		for _, l := range a.list {
			a.page[l.Seq] = &attempt{reason: l.Reason}
		}
		a.next = a.list[len(a.list)-1].Seq + 1
	}
}

// records are the next ones of the page.
func (a *again) records(ctx context.Context) (recs []mqttetl.Record, err error) {
	if a.ordered {
		for a.read < a.next && len(recs) == 0 {
			through := a.next - 1
			recs, through, err = a.reader.Scan(ctx, &a.sel, a.read, through, nil)
			if errors.Is(err, io.EOF) {
				through, err = a.next-1, nil
			}
			if err != nil {
				return nil, err
			}
			a.read = through + 1
		}
		return recs, nil
	}
	size := 0
	for _, l := range a.list {
		if l.Seq < a.read {
			continue
		}
		one, _, err := a.reader.Scan(ctx, &a.sel, l.Seq, l.Seq, nil)
		if err != nil && !errors.Is(err, io.EOF) {
			if len(recs) > 0 { // they do not come again; the error does
				err = nil
			}
			return recs, err
		}
		a.read = l.Seq + 1
		for i := range one {
			recs, size = append(recs, one[i]), size+len(one[i].Payload)
		}
		if size >= pageBytes {
			break
		}
	}
	return recs, nil
}
