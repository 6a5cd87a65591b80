package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// publish makes the objects of a route's dead letters again and publishes them.
func (f *rerunFlags) publish(cmd *cobra.Command, std streams, cfg *config.Config, since time.Time) error {
	route, err := findRoute(cfg, f.route)
	switch {
	case err != nil:
		return routeError(err, cmd)
	case f.resume:
		return usageError{errors.New("--publish has nothing to resume: what is published is no dead letter any more"), cmd}
	case route.Publish == "":
		return usageError{fmt.Errorf("--route %s: the route publishes nothing", f.route), cmd}
	case cfg.Archive == nil:
		return configError{errors.New("there is no archive in the configuration, which keeps the dead letters")}
	}
	ctx := cmd.Context()
	a := &again{ctx: ctx, stage: forward.PublishStage(route.Name)}
	if a.set, err = transform.Compile([]transform.Route{*route}); err != nil {
		return configError{err}
	}
	if a.reader, err = archive.OpenReader(cfg.Archive.Path); err != nil {
		return err
	}
	defer a.reader.Close()
	if a.letters, err = archive.OpenLetters(ctx, cfg.Archive.Path); err != nil {
		return err
	}
	defer a.letters.Close()
	if a.from, err = firstSince(ctx, a.reader, since); err != nil {
		return err
	}
	c := pipeline.NATSConfig(cfg.NATS, a.reader.LogID())
	if err := a.run(forward.MappedConfig{Config: c, Subjects: []string{route.Subjects()}}); err != nil {
		return err
	}
	switch {
	case a.stay > 0:
		return fmt.Errorf("route %s: %s published, %d stay: %s", route.Name, plural(a.gone, "dead letter"), a.stay, a.why)
	case a.gone == 0:
		fmt.Fprintf(std.err, "route %s: no dead letter of %s is meant\n", route.Name, a.stage)
	default:
		fmt.Fprintf(std.err, "route %s: %s published\n", route.Name, plural(a.gone, "dead letter"))
	}
	return nil
}

// again is the records of a route's dead letters as the log of a forward.Mapped,
// and what maps them. A dead letter goes when its objects are acknowledged.
//
// For Sparkplug all records of the route are read, since names and types stand in
// those before. What still fails is tried once more with the births of all.
type again struct {
	ctx     context.Context
	stage   string
	set     *transform.Set
	sel     mqttetl.Selection // the route's
	reader  *archive.Reader
	letters *archive.Letters
	from    mqttetl.Seq // of the first dead letter that is meant
	mapper  *pipeline.Mapper
	ordered bool // all records of the route are mapped, not only those that are meant

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
func (a *again) run(cfg forward.MappedConfig) error {
	a.sel.Topics = a.set.Filters()
	var births *archive.Births
	if a.set.HasBirths() {
		var err error
		if births, err = archive.OpenBirths(); err != nil {
			return err
		}
		defer births.Close()
	}
	o := withBirths(transform.Options{Objects: true, Escape: forward.EscapeTopic, NoSuspend: true}, births)
	for {
		applier, err := a.set.Applier(o)
		if err != nil {
			return configError{err}
		}
		defer applier.Close()
		a.mapper = pipeline.LetterMapper(applier, births)
		a.ordered = a.set.HasBirths() && !o.Retry
		a.next, a.read, a.page, a.list, a.confirmed, a.stay, a.why = a.from, 1, nil, nil, 0, 0, ""
		p, err := forward.NewMapped(cfg, a, a)
		if err != nil {
			return configError{err}
		}
		if err := p.Drain(a.ctx); err != nil {
			return errors.Join(err, a.settle())
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

// settle deletes what is published of the page.
func (a *again) settle() error {
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

// Next are the next records. All before them are settled.
func (a *again) Next(ctx context.Context, _ int) ([]mqttetl.Record, error) {
	for {
		recs, err := a.records(ctx)
		if err != nil || len(recs) > 0 {
			return recs, err
		}
		if err := a.settle(); err != nil {
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
