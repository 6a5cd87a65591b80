package archive

import (
	"cmp"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/mqttetl/mqttetl/sink/store"
)

// readingsSchema: a series is what one path yields on one topic. Two readings
// of a series may have the same time, so that is no key.
const readingsSchema = `
CREATE TABLE series(
  id INTEGER PRIMARY KEY,
  topic TEXT NOT NULL,
  path TEXT NOT NULL,                              -- as jq writes it; . for the whole payload
  UNIQUE(topic, path)
) STRICT;
CREATE TABLE readings(
  series_id INTEGER NOT NULL REFERENCES series(id),
  time INTEGER NOT NULL,                           -- receipt, Unix nanoseconds, UTC
  value REAL NOT NULL                              -- true is 1, false is 0
) STRICT;
CREATE INDEX readings_by_series ON readings(series_id, time);
`

// readings are the numbers on their way into the table.
type readings struct {
	insert *sql.Stmt
	in     []store.Reading
	ids    []driver.Value // of the series, of the same index
	order  []int          // of the rows: by series, which spares the index much of its searching
	series series
	cells
}

func (r *readings) declaration() string { return `CREATE TABLE x(series_id, time, value)` }
func (r *readings) rows() int           { return len(r.in) }
func (r *readings) rowid(row int) int64 { return int64(row) }

func (r *readings) column(row, col int) driver.Value {
	row = r.order[row]
	switch col {
	case 0:
		return r.ids[row]
	case 1:
		return r.time.set(r.in[row].Time)
	}
	return r.float.set(r.in[row].Value)
}

// series is the dictionary of the table series, like names with two columns.
type series struct {
	names
	key []byte // scratch: topic, 0, path. A topic holds no 0 (MQTT 5 §4.7.3).
}

func (s *series) id(topic, path []byte) (driver.Value, error) {
	s.key = append(append(append(s.key[:0], topic...), 0), path...)
	if e, ok := s.ids[string(s.key)]; ok {
		return e.id, nil
	}
	e, err := s.enter(string(s.key), string(topic), string(path))
	if err != nil {
		return nil, err
	}
	return e.id, nil
}

func (a *Archive) prepareReadings() (err error) {
	if !a.options.Readings {
		return nil
	}
	r := &a.readings
	r.cells = newCells()
	r.series.ids = map[string]*entry{}
	if err := a.show("numbers", r); err != nil {
		return err
	}
	if r.series.find, err = a.prepareOne(`SELECT id FROM series WHERE topic = ? AND path = ?`); err != nil {
		return err
	}
	if r.series.add, err = a.prepareOne(`INSERT INTO series(topic, path) VALUES(?, ?)`); err != nil {
		return err
	}
	r.insert, err = a.prepareOne(`INSERT INTO readings(series_id, time, value) SELECT series_id, time, value FROM temp.numbers`)
	return err
}

// AppendReadings inserts readings, opening a transaction when none is open.
// Everything is copied before it returns. The archive was opened with
// Options.Readings.
func (a *Archive) AppendReadings(list []store.Reading) error {
	if len(list) == 0 {
		return nil
	}
	err := a.begin()
	if err == nil {
		err = a.insertReadings(list)
	}
	if err != nil {
		return a.failed(fmt.Sprintf("%d readings", len(list)), err)
	}
	return nil
}

func (a *Archive) insertReadings(list []store.Reading) error {
	r := &a.readings
	r.in, r.ids, r.order = list, r.ids[:0], r.order[:0]
	defer func() { r.in = nil }()
	for i := range list {
		id, err := r.series.id(list[i].Topic, list[i].Path)
		if err != nil {
			return err
		}
		r.ids, r.order = append(r.ids, id), append(r.order, i)
	}
	slices.SortStableFunc(r.order, func(a, b int) int { return cmp.Compare(r.ids[a].(int64), r.ids[b].(int64)) })
	a.txBytes += int64(len(list)) * rowOverhead
	_, err := r.insert.ExecContext(background)
	return err
}
