package pipeline

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"slices"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/history"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// bornTopics are those of the messages that change what Sparkplug names mean.
var bornTopics = []mqttetl.Filter{
	"spBv1.0/+/NBIRTH/+", "spBv1.0/+/NDEATH/+", "spBv1.0/+/DBIRTH/+/+", "spBv1.0/+/DDEATH/+/+",
}

func publishesSparkplug(r transform.Route) bool { return r.Publish != "" && r.Decode == "sparkplug_b" }

// publishMapper makes what maps records for the consumer that publishes, and tells
// it the births of its position. It is called before the log and the archive are
// opened for writing, which a process must not do with files that it reads in
// another way. It is nil if no route publishes.
func publishMapper(cfg *config.Config, logger *slog.Logger) (*Mapper, error) {
	routes := publishing(cfg.Routes)
	if cfg.NATS == nil || len(routes) == 0 {
		return nil, nil
	}
	set, err := transform.Compile(routes)
	if err != nil {
		return nil, err
	}
	m, err := NewMapper(set)
	if err != nil {
		return nil, err
	}
	if err := publishedBirths(cfg, m.Learn); err != nil {
		logger.Warn("published Sparkplug data waits for the next births", "part", "publish", "error", err)
	}
	return m, nil
}

// publishedBirths tells the births and deaths that the consumer publish has read
// before, in their order, as far as they can be found: the last message of a
// topic, as the archive keeps it, and all that the log holds beyond the
// archive. A node whose last birth is after the consumer's position, because it
// was reborn while NATS was away, is unknown until then: its data up to there are
// dead letters, and transform rerun --publish publishes them.
func publishedBirths(cfg *config.Config, tell func(*mqttetl.Record) error) error {
	if !slices.ContainsFunc(cfg.Routes, publishesSparkplug) {
		return nil
	}
	err := readBirths(cfg, tell)
	if errors.Is(err, fs.ErrNotExist) { // the first start
		return nil
	}
	return err
}

func readBirths(cfg *config.Config, tell func(*mqttetl.Record) error) error {
	info, err := wal.Inspect(cfg.Log.Dir)
	if err != nil {
		return err
	}
	position := info.Cursors[Publish]
	if position == 0 {
		return nil
	}
	ctx := context.Background()
	places := history.Places{LogDir: cfg.Log.Dir}
	archived := mqttetl.Seq(0)
	var last []mqttetl.Seq
	if a := cfg.Archive; a != nil {
		if _, archived, err = archive.ReadCursor(a.Path); err == nil && archived > 0 {
			places.Archive = a.Path
			last, err = lastBirths(ctx, a, position)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	h, err := history.Open(places)
	if err != nil {
		return err
	}
	defer h.Close()
	slices.Sort(last)
	for _, seq := range last {
		if err := eachSelected(ctx, h, mqttetl.Selection{From: seq, To: seq}, tell); err != nil {
			return err
		}
	}
	if archived < position {
		return eachSelected(ctx, h, mqttetl.Selection{From: archived + 1, To: position, Topics: bornTopics}, tell)
	}
	return nil
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
