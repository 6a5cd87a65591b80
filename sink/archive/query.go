package archive

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/mqttetl/mqttetl"
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
