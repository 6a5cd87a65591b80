package archive

import (
	"database/sql"
	"fmt"

	"github.com/mqttetl/mqttetl"
)

// birthsSchema: what Sparkplug routes remember, see mqttetl.Birth.
const birthsSchema = `
CREATE TABLE births(
  route TEXT NOT NULL,
  key TEXT NOT NULL,
  value TEXT NOT NULL,                             -- JSON
  PRIMARY KEY(route, key)
) STRICT, WITHOUT ROWID;
`

type births struct{ put, drop *sql.Stmt }

func (a *Archive) prepareBirths() (err error) {
	if !a.options.Births {
		return nil
	}
	if a.births.put, err = a.prepareOne(`INSERT OR REPLACE INTO births(route, key, value) VALUES(?, ?, ?)`); err != nil {
		return err
	}
	a.births.drop, err = a.prepareOne(`DELETE FROM births WHERE route = ? AND key = ?`)
	return err
}

// Births are all that AppendBirths has kept.
func (a *Archive) Births() (list []mqttetl.Birth, err error) {
	rows, err := a.conn.QueryContext(background, `SELECT route, key, value FROM births ORDER BY route, key`)
	if err == nil {
		err = eachRow(rows, func() error {
			var b mqttetl.Birth
			err := rows.Scan(&b.Route, &b.Key, &b.Value)
			list = append(list, b)
			return err
		})
	}
	if err != nil {
		return nil, a.failed("read births", err)
	}
	return list, nil
}

// AppendBirths keeps births, opening a transaction when none is open. The
// archive was opened with Options.Births.
func (a *Archive) AppendBirths(list []mqttetl.Birth) error {
	if len(list) == 0 {
		return nil
	}
	err := a.begin()
	for i := 0; err == nil && i < len(list); i++ {
		b := &list[i]
		a.txBytes += int64(len(b.Route)+len(b.Key)+len(b.Value)) + rowOverhead
		if b.Value == "" {
			err = run(a.births.drop, b.Route, b.Key)
		} else {
			err = run(a.births.put, b.Route, b.Key, b.Value)
		}
	}
	if err != nil {
		return a.failed(fmt.Sprintf("%d births", len(list)), err)
	}
	return nil
}
