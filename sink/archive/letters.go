package archive

import (
	"context"

	"github.com/mqttetl/mqttetl"
)

// Letters are the dead letters of an archive, for a program that tries them
// again beside the one that goes on filling it. It belongs to one goroutine,
// and no Rebuild is open meanwhile.
type Letters struct{ r Rebuild }

// OpenLetters opens the archive at path. Errors are those of OpenRebuild.
func OpenLetters(ctx context.Context, path string) (*Letters, error) {
	l := &Letters{Rebuild{a: &Archive{path: behindLinks(path)}}}
	if err := l.r.openBeside(ctx); err != nil {
		_ = l.Close() // the first error is the one that says why
		return nil, failed(path, "open for its dead letters", err)
	}
	return l, nil
}

// Next are up to max dead letters of a stage, of records from the given one on.
func (l *Letters) Next(stage string, from mqttetl.Seq, max int) (list []mqttetl.DeadLetter, err error) {
	rows, err := l.r.a.conn.QueryContext(background, `SELECT seq, stage, reason, time FROM dead_letters
		WHERE seq >= ? AND stage = ? ORDER BY seq LIMIT ?`, int64(from), stage, max)
	if err == nil {
		list, err = scanLetters(rows)
	}
	if err != nil {
		return nil, failed(l.r.a.path, "read dead letters", err)
	}
	return list, nil
}

// Drop deletes dead letters. One that is gone already is no error.
func (l *Letters) Drop(ctx context.Context, list []mqttetl.DeadLetter) error {
	if len(list) == 0 {
		return nil
	}
	err := l.r.transaction(ctx, func() error {
		for i := range list {
			if err := l.r.exec(`DELETE FROM dead_letters WHERE seq = ? AND stage = ?`, int64(list[i].Seq), list[i].Stage); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return failed(l.r.a.path, "delete dead letters", err)
	}
	return nil
}

// Close ends it.
func (l *Letters) Close() error { return l.r.Close() }
