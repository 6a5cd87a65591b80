package pipeline

import (
	"cmp"
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

// publishedBirths are the births and deaths that the consumer publish has read
// before, in their order, as far as they can be found: the last message of a
// topic in the archive's table latest, and all that the log holds beyond the
// archive. A node whose last birth is behind the consumer's position, because it
// was reborn while NATS was away, is unknown until then: its data up to there are
// dead letters, and transform rerun --publish publishes them.
//
// It is called before log and archive are opened for writing, which a process
// must not do with files that it reads in another way.
func publishedBirths(cfg *config.Config, logger *slog.Logger) []mqttetl.Record {
	if !slices.ContainsFunc(cfg.Routes, publishesSparkplug) || cfg.NATS == nil {
		return nil
	}
	list, err := readBirths(cfg)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // of the first start
		logger.Warn("published Sparkplug data waits for the next births", "part", "publish", "error", err)
		return nil
	}
	return list
}

func readBirths(cfg *config.Config) (list []mqttetl.Record, err error) {
	info, err := wal.Inspect(cfg.Log.Dir)
	if err != nil {
		return nil, err
	}
	position := info.Cursors[Publish]
	if position == 0 {
		return nil, nil
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
			return nil, err
		}
	}
	h, err := history.Open(places)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	for _, seq := range last {
		if list, err = appendSelected(ctx, list, h, mqttetl.Selection{From: seq, To: seq}); err != nil {
			return nil, err
		}
	}
	if archived < position {
		list, err = appendSelected(ctx, list, h, mqttetl.Selection{From: archived + 1, To: position, Topics: bornTopics})
	}
	slices.SortFunc(list, func(a, b mqttetl.Record) int { return cmp.Compare(a.Seq, b.Seq) })
	return list, err
}

// lastBirths are the archived ones, of topics that have none behind position.
func lastBirths(ctx context.Context, a *config.Archive, position mqttetl.Seq) (list []mqttetl.Seq, err error) {
	if !a.Latest {
		return nil, nil
	}
	there := false
	err = archive.Query(ctx, a.Path, `SELECT 1 FROM sqlite_schema WHERE name = 'latest'`, func([]string, []any) error { there = true; return nil })
	if err != nil || !there {
		return nil, err
	}
	err = archive.Query(ctx, a.Path, `SELECT topic, seq FROM latest WHERE topic GLOB 'spBv1.0/*/[ND]BIRTH/*' OR topic GLOB 'spBv1.0/*/[ND]DEATH/*'`, func(_ []string, v []any) error {
		topic, _ := v[0].(string)
		seq, _ := v[1].(int64)
		if mqttetl.Seq(seq) <= position && slices.ContainsFunc(bornTopics, func(f mqttetl.Filter) bool { return f.Matches([]byte(topic)) }) {
			list = append(list, mqttetl.Seq(seq))
		}
		return nil
	})
	return list, err
}

func appendSelected(ctx context.Context, list []mqttetl.Record, h *history.History, sel mqttetl.Selection) ([]mqttetl.Record, error) {
	for c := h.Select(sel); ; {
		recs, err := c.Next(ctx)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		list = append(list, recs...)
	}
}
