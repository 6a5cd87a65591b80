package pipeline

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync/atomic"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/history"
)

// bornTopics are those of the messages that change what Sparkplug names mean.
var bornTopics = []mqttetl.Filter{
	"spBv1.0/+/NBIRTH/+", "spBv1.0/+/NDEATH/+", "spBv1.0/+/DBIRTH/+/+", "spBv1.0/+/DDEATH/+/+",
}

func publishesSparkplug(r transform.Route) bool { return r.Publish != "" && r.Decode == "sparkplug_b" }

// publishMapper makes what maps records for the consumer that publishes. It is nil if
// no route publishes.
func publishMapper(cfg *config.Config) (*Mapper, error) {
	routes := publishing(cfg.Routes)
	if cfg.NATS == nil || len(routes) == 0 {
		return nil, nil
	}
	set, err := transform.Compile(routes)
	if err != nil {
		return nil, err
	}
	return NewMapper(set)
}

// bornBefore are the births and deaths that the consumer publish has read before it
// begins, as far as they can be found: the last message of a
// topic, as the archive keeps it, and all that the log holds beyond the
// archive. A node whose last birth is after the consumer's position, because it
// was reborn while NATS was away, is unknown until then: its data up to there are
// dead letters, and transform rerun --publish publishes them.
type bornBefore struct {
	archive  *config.Archive // nil: none
	log      births          // the consumer
	position mqttetl.Seq
	read     atomic.Int64 // told so far
}

// births is a consumer's part of the log. While the consumer has not said where it stands,
// nothing is trimmed. What was trimmed before is passed over; no records are the end.
type births interface {
	Again(after mqttetl.Seq) ([]mqttetl.Record, error)
}

// each tells them in their order. Memory does not grow with their size, but by 8 bytes for
// each that the archive has.
func (b *bornBefore) each(ctx context.Context, tell func(*mqttetl.Record) error) error {
	if b.position == 0 {
		return nil
	}
	count := func(r *mqttetl.Record) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.read.Add(1)
		return tell(r)
	}
	archived, err := b.eachArchived(ctx, count)
	if err != nil {
		return err
	}
	for after := archived; after < b.position; {
		recs, err := b.log.Again(after)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			return nil
		}
		for i := range recs {
			r := &recs[i]
			if r.Seq > b.position || ctx.Err() != nil {
				return ctx.Err()
			}
			if after = r.Seq; !isBorn(r.Topic) {
				continue
			}
			if err := count(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func isBorn(topic []byte) bool {
	return slices.ContainsFunc(bornTopics, func(f mqttetl.Filter) bool { return f.Matches(topic) })
}

// eachArchived tells those that the archive has, and returns up to where that goes.
func (b *bornBefore) eachArchived(ctx context.Context, tell func(*mqttetl.Record) error) (archived mqttetl.Seq, err error) {
	if b.archive == nil {
		return 0, nil
	}
	_, archived, err = archive.ReadCursor(b.archive.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, archive.ErrEmpty) || err == nil && archived == 0 {
		return 0, nil
	}
	var last []mqttetl.Seq
	if err == nil {
		last, err = lastBirths(ctx, b.archive, b.position)
	}
	if err != nil || len(last) == 0 {
		return archived, err
	}
	h, err := history.Open(history.Places{Archive: b.archive.Path})
	if err != nil {
		return archived, err
	}
	defer h.Close()
	slices.Sort(last)
	for len(last) > 0 {
		n := near(last)
		wanted := last[:n]
		sel := mqttetl.Selection{From: wanted[0], To: wanted[n-1], Topics: bornTopics}
		if err := eachSelected(ctx, h, sel, func(r *mqttetl.Record) error {
			if _, ok := slices.BinarySearch(wanted, r.Seq); !ok {
				return nil
			}
			return tell(r)
		}); err != nil {
			return archived, err
		}
		last = last[n:]
	}
	return archived, nil
}

// near is how many of the first numbers are so near to each other that what lies between
// is read, too.
func near(list []mqttetl.Seq) int {
	const gap = 64
	n := 1
	for n < len(list) && list[n]-list[n-1] <= gap {
		n++
	}
	return n
}

// lastBirths are the archived ones, of topics that have none after position.
func lastBirths(ctx context.Context, a *config.Archive, position mqttetl.Seq) (list []mqttetl.Seq, err error) {
	if !a.Latest {
		return nil, nil
	}
	list, err = archive.Latest(ctx, a.Path, bornTopics)
	return slices.DeleteFunc(list, func(seq mqttetl.Seq) bool { return seq > position }), err
}

func eachSelected(ctx context.Context, h *history.History, sel mqttetl.Selection, tell func(*mqttetl.Record) error) error {
	for c := h.Select(sel); ; {
		recs, err := c.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range recs {
			if err := tell(&recs[i]); err != nil {
				return err
			}
		}
	}
}
