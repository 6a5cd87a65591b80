package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// A Letter is a dead letter and its message, as far as the archive has it: the log
// may have trimmed it before the archive began. Payload is string, []byte or, without
// a message, nil.
type Letter struct {
	mqttetl.DeadLetter
	Message       bool
	Received      int64 // Unix nanoseconds
	Topic, Source string
	Payload       any
}

const lettersQuery = `SELECT d.seq, d.stage, d.reason, d.time, m.time, t.topic, s.name, m.payload FROM dead_letters d
	LEFT JOIN messages m ON m.seq = d.seq LEFT JOIN topics t ON t.id = m.topic_id LEFT JOIN sources s ON s.id = m.source_id
	WHERE d.seq BETWEEN %d AND %d%s ORDER BY d.seq, d.stage`

// EachLetter calls do with the selected dead letters of these stages, of any where none
// is named, in the order of their records. A letter without its message is selected by its number
// alone. It is valid until do returns, whose errors are returned as they are; others are those of Query.
func EachLetter(ctx context.Context, path string, sel *mqttetl.Selection, stages []string, do func(*Letter) error) error {
	where := ""
	if len(stages) > 0 {
		var quoted []string
		for _, s := range stages {
			quoted = append(quoted, "'"+strings.ReplaceAll(s, "'", "''")+"'")
		}
		where = " AND d.stage IN (" + strings.Join(quoted, ", ") + ")"
	}
	to := uint64(1<<63 - 1)
	if sel.To != 0 {
		to = uint64(sel.To)
	}
	enough, n := errors.New("enough"), uint64(0)
	err := Query(ctx, path, fmt.Sprintf(lettersQuery, sel.From, to, where), func(_ []string, v []any) error {
		l := letterOf(v)
		if !l.selected(sel) {
			return nil
		}
		if err := do(&l); err != nil {
			return err
		}
		if n++; n == sel.Limit {
			return enough
		}
		return nil
	})
	if errors.Is(err, enough) {
		return nil
	}
	return err
}

// letterOf is a row of lettersQuery.
func letterOf(v []any) (l Letter) {
	seq, _ := v[0].(int64)
	l.Seq = mqttetl.Seq(seq)
	l.Stage, _ = v[1].(string)
	l.Reason, _ = v[2].(string)
	l.Time, _ = v[3].(int64)
	l.Received, l.Message = v[4].(int64)
	l.Topic, _ = v[5].(string)
	l.Source, _ = v[6].(string)
	l.Payload = v[7]
	return l
}

func (l *Letter) selected(sel *mqttetl.Selection) bool {
	if !l.Message {
		return len(sel.Topics) == 0 && len(sel.Sources) == 0 && sel.Since.IsZero() && sel.Until.IsZero()
	}
	return sel.Matches(&mqttetl.Record{Seq: l.Seq, Time: l.Received, Source: l.Source, Message: mqttetl.Message{Topic: []byte(l.Topic)}})
}

// Letters are the dead letters of an archive, for a program that tries them
// again beside the one that goes on filling it. It belongs to one goroutine,
// and no Rerun is open meanwhile.
type Letters struct{ r Rerun }

// OpenLetters opens the archive at path. Errors are those of OpenRerun.
func OpenLetters(ctx context.Context, path string) (*Letters, error) {
	l := &Letters{Rerun{a: &Archive{path: behindLinks(path)}}}
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
