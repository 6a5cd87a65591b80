package archive

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/mqttetl/mqttetl"
)

// What a row cannot hold must not hold up the rows after it. The record is a
// row all the same, without that value; the value is in table mqttetl_raw,
// byte for byte as it came, and a dead letter says so. A Reader puts it back.

const (
	// rowProperties bounds the properties that a row holds, in bytes as on the
	// wire. As JSON they grow up to sevenfold: \u0001 for a byte, and the names.
	rowProperties = 2 << 20
	// rawPart is the size of the rows of table mqttetl_raw.
	rawPart = 256 << 10
)

// rawSchema: the name begins with mqttetl_, as that of no table of a route does.
const rawSchema = `
-- Values that were too large for their row, as they came: payload, or properties as on the wire (MQTT 5 §3.3.2.3).
CREATE TABLE mqttetl_raw(
  seq INTEGER NOT NULL,                            -- of the message
  name TEXT NOT NULL,                              -- payload or properties
  part INTEGER NOT NULL,                           -- 0, 1, …: the value is all parts, one after the other
  bytes BLOB NOT NULL,
  UNIQUE(seq, name, part)
) STRICT;
`

// aside is what the open transaction has set aside.
type aside struct {
	add     *sql.Stmt
	letters []mqttetl.DeadLetter
}

// refusedContent says that SQLite has refused a value for what it is: the same
// statement would be refused again, whenever it is tried.
func refusedContent(err error) bool {
	c := code(err)
	return c == codeTooBig || c == codeMismatch || c == codeRange
}

// insertParts inserts records of which SQLite has refused one for its content:
// halves of them, until that one stands alone. Its values are set aside.
func (a *Archive) insertParts(records []mqttetl.Record, refused error) error {
	var last sql.Null[mqttetl.Seq]
	if err := a.stmt.lastRow.QueryRowContext(background).Scan(&last); err != nil {
		return errors.Join(refused, err)
	}
	if last.V >= records[0].Seq { // the statement was not undone
		return refused
	}
	if n := len(records); n > 1 {
		if err := a.insert(records[:n/2]); err != nil {
			return err
		}
		return a.insert(records[n/2:])
	}
	a.in.bare = true
	defer func() { a.in.bare = false }()
	if err := a.insertAll(records); err != nil {
		return err
	}
	r := &records[0]
	return a.setAside(r, "SQLite refuses its values: "+refused.Error(), map[string][]byte{"payload": r.Payload, "properties": r.Properties})
}

// asideProperties sets aside the properties that are too large for a row.
func (a *Archive) asideProperties(records []mqttetl.Record) error {
	for i := range records {
		r := &records[i]
		if len(r.Properties) <= rowProperties {
			continue
		}
		why := fmt.Sprintf("its properties have %d bytes, a row holds %d: they are NULL there", len(r.Properties), rowProperties)
		if err := a.setAside(r, why, map[string][]byte{"properties": r.Properties}); err != nil {
			return err
		}
	}
	return nil
}

// setAside writes the values into table mqttetl_raw, and a dead letter.
func (a *Archive) setAside(r *mqttetl.Record, why string, values map[string][]byte) error {
	for name, value := range values {
		for part := int64(0); len(value) > 0; part++ {
			n := min(rawPart, len(value))
			if err := run(a.aside.add, int64(r.Seq), name, part, value[:n]); err != nil {
				return err
			}
			value = value[n:]
			a.txBytes += int64(n) + rowOverhead
		}
	}
	l := mqttetl.DeadLetter{Seq: r.Seq, Stage: mqttetl.StageArchive, Reason: why + "; table mqttetl_raw holds them as they came", Time: time.Now().UnixNano()}
	a.aside.letters = append(a.aside.letters, l)
	return run(a.stmt.addDeadLetter, int64(l.Seq), l.Stage, l.Reason, l.Time)
}

// setAsides returns the dead letters of records whose values a row could not hold,
// of the transactions committed since it was last called.
func (a *Archive) setAsides() []mqttetl.DeadLetter {
	if a.inTx {
		return nil
	}
	letters := a.aside.letters
	a.aside.letters = nil
	return letters
}

// nextAside finds the next record from seq on that has values in table mqttetl_raw.
func (s *scan) nextAside(seq int64) error {
	return s.r.conn.QueryRowContext(background, `SELECT coalesce(min(seq), 0x7fffffffffffffff) FROM mqttetl_raw WHERE seq >= ?`, seq).Scan(&s.aside)
}

// putBack gives the record the values that its row could not hold.
func (s *scan) putBack(rec *mqttetl.Record) error {
	seq := int64(rec.Seq)
	if s.aside < seq {
		if err := s.nextAside(seq); err != nil {
			return err
		}
	}
	if s.aside != seq {
		return nil
	}
	rows, err := s.r.conn.QueryContext(background, `SELECT name, part, bytes FROM mqttetl_raw WHERE seq = ? ORDER BY name, part`, seq)
	if err != nil {
		return err
	}
	values, parts := map[string][]byte{}, map[string]int64{}
	err = eachRow(rows, func() error {
		var name string
		var part int64
		var bytes sql.RawBytes
		if err := rows.Scan(&name, &part, &bytes); err != nil {
			return err
		}
		if part != parts[name] {
			return fmt.Errorf("%w: part %d of its %s is missing in table mqttetl_raw", mqttetl.ErrDamaged, parts[name], name)
		}
		parts[name]++
		values[name] = append(values[name], bytes...)
		s.extra += len(bytes)
		return nil
	})
	if value, ok := values["payload"]; ok {
		rec.Payload = value
	}
	if value, ok := values["properties"]; ok {
		rec.Properties = value
	}
	return err
}
