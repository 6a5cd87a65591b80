package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Query runs one SQL statement on the archive at path, which it cannot change,
// and calls row with the names of the columns and the values of each row: nil,
// int64, float64, string or []byte, valid until row returns. The errors of row
// are returned as they are, those of opening the archive are those of
// ReadCursor.
func Query(ctx context.Context, path, statement string, row func(columns []string, values []any) error) error {
	path = behindLinks(path)
	before, err := os.Stat(path)
	if err != nil {
		return failed(path, "query", err)
	}
	db, c, rest, err := connectReader(ctx, path)
	if err != nil {
		return failed(path, "query", err)
	}
	defer db.Close()
	defer c.Close()
	id, err := readIdentity(c)
	if err == nil && id.empty() {
		err = ErrEmpty
	}
	if err == nil {
		err = id.check()
	}
	if err == nil {
		_, err = c.ExecContext(ctx, `PRAGMA query_only=ON`)
	}
	if err != nil {
		return failed(path, "query", err)
	}
	rows, err := c.QueryContext(ctx, statement)
	if err != nil {
		return fmt.Errorf("query archive %s: %w", path, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return fmt.Errorf("query archive %s: %w", path, err)
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("query archive %s: %w", path, err)
		}
		if err := row(columns, values); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("query archive %s: %w", path, err)
	}
	if rest && !undisturbed(path, before) {
		return mqttetl.WithHint(fmt.Errorf("query archive %s: %w", path, errors.Join(mqttetl.ErrUnavailable, errStarted)), "ask again")
	}
	return nil
}

// errStarted: what was read may be a mixture of before and after.
var errStarted = errors.New("the service has started meanwhile")

// Count is the number of messages in the archive at path. Errors are those of Query.
func Count(ctx context.Context, path string) (n uint64, err error) {
	err = Query(ctx, path, `SELECT count(*) FROM messages`, func(_ []string, v []any) error { n = uint64(v[0].(int64)); return nil })
	return n, err
}

// EachBirth calls f with all that the archive at path keeps of Sparkplug's births.
// Errors are those of Query and of f.
func EachBirth(ctx context.Context, path string, f func(store.Birth) error) error {
	return Query(ctx, path, `SELECT route, key, value FROM births`, func(_ []string, v []any) error {
		return f(store.Birth{Route: v[0].(string), Key: v[1].(string), Value: v[2].(string)})
	})
}

// Latest is the last message of each topic that one of the filters matches, in no
// order; none if the archive at path was never opened with store.Options.Latest.
// Errors are those of Query.
func Latest(ctx context.Context, path string, filters []mqttetl.Filter) (list []mqttetl.Seq, err error) {
	there := false
	err = Query(ctx, path, `SELECT 1 FROM sqlite_schema WHERE name = 'latest'`, func([]string, []any) error { there = true; return nil })
	if err != nil || !there {
		return nil, err
	}
	err = Query(ctx, path, `SELECT CAST(topic AS BLOB), seq FROM latest`, func(_ []string, v []any) error {
		topic, _ := v[0].([]byte)
		if slices.ContainsFunc(filters, func(f mqttetl.Filter) bool { return f.Matches(topic) }) {
			list = append(list, mqttetl.Seq(v[1].(int64)))
		}
		return nil
	})
	return list, err
}
