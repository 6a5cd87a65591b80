package archive

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// schemaVersion is the version of the schema below. It is in the file's
// user_version and in meta.
const schemaVersion = 1

// applicationID marks an SQLite file as an archive of this program: "mqtl".
const applicationID = 0x6d71746c

// pageSize of a new archive. Every commit writes at least four pages, so small
// ones spare the disk where messages are few; large ones waste less of each
// page. At 128 bytes a payload 4096 costs 30 bytes a row beside it and half as
// much time again; 8192 costs 27, 16384 26 and no less time.
const pageSize = 8192

// schema: the tables are STRICT, so that no row can hold what its column does
// not say. The view joins in a fixed order (CROSS JOIN): the messages first, so
// that "limit 5" reads five rows and not all rows of the first topic. Times
// before 1970 need the division to round down, which SQLite's does not.
const schema = `
CREATE TABLE topics(
  id INTEGER PRIMARY KEY,
  topic TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE sources(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE messages(
  seq INTEGER PRIMARY KEY,                         -- the log's sequence number
  time INTEGER NOT NULL,                           -- receipt, Unix nanoseconds, UTC
  topic_id INTEGER NOT NULL REFERENCES topics(id),
  source_id INTEGER NOT NULL REFERENCES sources(id),
  flags INTEGER NOT NULL,                          -- qos | retain<<2 | dup<<3
  payload ANY,                                     -- TEXT when valid UTF-8 without NUL, else BLOB
  properties TEXT                                  -- MQTT 5 properties as JSON, NULL if none
) STRICT;

CREATE TABLE dead_letters(
  seq INTEGER,
  stage TEXT,                                      -- what could not process the record
  reason TEXT,
  time INTEGER,                                    -- Unix nanoseconds, UTC
  UNIQUE(seq, stage)
) STRICT;

-- Records that were no longer in the log when the archive came to them.
CREATE TABLE gaps(
  first INTEGER PRIMARY KEY,
  last INTEGER NOT NULL,
  time INTEGER NOT NULL                            -- when this was noticed, Unix nanoseconds, UTC
) STRICT;

-- One row. Every record up to cursor is in messages or in gaps.
CREATE TABLE meta(
  schema_version INTEGER NOT NULL,
  log_id TEXT NOT NULL,
  cursor INTEGER NOT NULL
) STRICT;

CREATE VIEW msg(seq, time, topic, source, qos, retain, payload, properties) AS
SELECT m.seq,
       strftime('%Y-%m-%dT%H:%M:%S', m.time/1000000000 - (m.time%1000000000 < 0), 'unixepoch')
         || printf('.%09dZ', (m.time%1000000000 + 1000000000) % 1000000000),
       t.topic, s.name, m.flags & 3, m.flags>>2 & 1, m.payload, m.properties
  FROM messages m CROSS JOIN topics t ON t.id = m.topic_id CROSS JOIN sources s ON s.id = m.source_id;
`

// identity is what an SQLite file says about itself.
type identity struct {
	application, version int64
	tables               int64
}

// empty: nothing was ever created in the file, or the process died before the
// schema was committed.
func (i identity) empty() bool { return i == identity{} }

// check refuses files that are not archives, or not of a version known here.
func (i identity) check() error {
	switch {
	case i.application != applicationID:
		return mqttetl.WithHint(fmt.Errorf("%w: an SQLite database that mqttetl has not made", mqttetl.ErrForeign),
			"set archive.path to a file of its own")
	case i.version > schemaVersion:
		return mqttetl.WithHint(fmt.Errorf("%w: schema version %d, this one knows %d", store.ErrVersion, i.version, schemaVersion),
			"run the version of mqttetl that made it, or a later one")
	case i.version < 1:
		return fmt.Errorf("%w: schema version %d", mqttetl.ErrDamaged, i.version)
	}
	return nil
}

func readIdentity(c *sql.Conn) (i identity, err error) {
	err = errors.Join(
		c.QueryRowContext(background, `PRAGMA application_id`).Scan(&i.application),
		c.QueryRowContext(background, `PRAGMA user_version`).Scan(&i.version),
		c.QueryRowContext(background, `SELECT count(*) FROM sqlite_schema`).Scan(&i.tables))
	return i, err
}

// meta is the row of the table meta.
type meta struct {
	version int64
	logID   string
	cursor  mqttetl.Seq
}

func readMeta(c *sql.Conn) (m meta, err error) {
	err = c.QueryRowContext(background, `SELECT schema_version, log_id, cursor FROM meta`).Scan(&m.version, &m.logID, &m.cursor)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: table meta is empty", mqttetl.ErrDamaged)
	}
	return m, err
}

// createSchema makes an empty file an archive of the log, in one transaction.
func createSchema(c *sql.Conn, logID string) error {
	if _, err := c.ExecContext(background, `BEGIN IMMEDIATE`); err != nil {
		return err
	}
	err := fillSchema(c, logID)
	if err == nil {
		_, err = c.ExecContext(background, `COMMIT`)
	}
	if err != nil {
		_, _ = c.ExecContext(background, `ROLLBACK`) // the first error is the one that says why
	}
	return err
}

func fillSchema(c *sql.Conn, logID string) error {
	head := fmt.Sprintf(`PRAGMA application_id=%d; PRAGMA user_version=%d;`, applicationID, schemaVersion)
	if _, err := c.ExecContext(background, head+schema); err != nil {
		return err
	}
	_, err := c.ExecContext(background, `INSERT INTO meta(schema_version, log_id, cursor) VALUES(?, ?, 0)`, schemaVersion, logID)
	return err
}
