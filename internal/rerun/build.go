package rerun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// The service waits while the tables are swapped. So the swap begins when the
// archive's cursor is at most near records ahead, applies routes for swapTime
// and the message that it is at, and is given up if that is not enough: what it
// has done is kept, the service continues, and it is tried again.
const (
	near      = 2000
	swapTime  = time.Second
	swapTries = 20
)

// build applies the routes to what is archived, and puts the table into its place.
func (r *table) build(ctx context.Context) (was, are int64, err error) {
	if err := r.comeNear(ctx); err != nil {
		return 0, 0, err
	}
	if err := r.retry(ctx); err != nil {
		return 0, 0, err
	}
	for range swapTries {
		if err := r.comeNear(ctx); err != nil {
			return 0, 0, err
		}
		if was, are, err = r.swap(ctx); !errors.Is(err, archive.ErrBehind) {
			return was, are, err
		}
	}
	return 0, 0, mqttetl.WithHint(fmt.Errorf("table %s: messages arrive faster than its routes can be applied", r.name()),
		"stop the service and go on with --resume")
}

// comeNear applies the routes until the archive's cursor is near.
func (r *table) comeNear(ctx context.Context) error {
	for range 100 {
		cursor, err := r.reader.Cursor()
		if err != nil || cursor < r.at {
			return err
		}
		last := cursor < r.at+near
		if err := r.upTo(ctx, cursor, time.Time{}); err != nil || last {
			return err
		}
	}
	return nil
}

func (r *table) swap(ctx context.Context) (was, are int64, err error) {
	return r.store.Swap(ctx, r.stages, func(cursor mqttetl.Seq) (archive.Memory, error) {
		if err := r.upTo(ctx, cursor, time.Now().Add(r.swapTime)); err != nil {
			return archive.Memory{}, err
		}
		return archive.Memory{Routes: r.names, Births: r.births}, nil
	})
}

// upTo applies the routes to the records up to the given one; if they are not
// all done when it is due, it returns archive.ErrBehind. Zero: never.
func (r *table) upTo(ctx context.Context, to mqttetl.Seq, due time.Time) error {
	for r.at <= to {
		recs, through, err := r.reader.Scan(ctx, &r.sel, r.at, to, nil)
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return err
		}
		if end {
			through = to
		}
		n, err := r.apply(recs, due)
		if err != nil {
			return err
		}
		if n < len(recs) {
			through = recs[n].Seq - 1
		}
		next := max(through+1, r.at)
		if next > r.store.State.Next {
			rows := &r.applier.Rows[0]
			if err := r.store.Append(ctx, rows, r.letters, next); err != nil {
				return err
			}
			r.rows += uint64(rows.Len())
		}
		r.at = next
		r.Progress(next-1, to)
		if r.at <= to && !due.IsZero() && time.Now().After(due) {
			return archive.ErrBehind
		}
	}
	return nil
}

// apply leaves in the applier what the routes make of the records, without what
// was appended before an interruption, or is kept. It returns how many it took:
// one at least, and no more when it is due, or much has been made.
func (r *table) apply(recs []mqttetl.Record, due time.Time) (int, error) {
	r.applier.Reset()
	r.applier.Ahead(recs)
	for i := range recs {
		if i > 0 && (r.applier.Full() || !due.IsZero() && time.Now().After(due)) {
			recs = recs[:i]
			break
		}
		if i > 0 && recs[i-1].Seq < r.store.State.Next && recs[i].Seq >= r.store.State.Next {
			r.applier.Reset()
		}
		r.applier.Apply(&recs[i])
		if recs[i].Seq >= r.store.State.Next {
			r.applied++
		}
	}
	if len(recs) > 0 && recs[len(recs)-1].Seq < r.store.State.Next {
		r.applier.Reset()
	}
	r.letters = r.letters[:0]
	for i := range r.applier.Failures {
		if f := &r.applier.Failures[i]; !f.Nulls {
			r.letters = append(r.letters, f.DeadLetter())
		}
	}
	if err := r.applier.Err(); err != nil || r.births == nil {
		return len(recs), err
	}
	return len(recs), r.births.Append(r.applier.Births())
}
