package archive

import (
	"cmp"
	"database/sql"
	"database/sql/driver"
	"slices"

	"github.com/mqttetl/mqttetl"
)

// latestSchema: it holds the topic as text, so that it can be looked at
// without a join.
const latestSchema = `
CREATE TABLE latest(
  topic_id INTEGER PRIMARY KEY REFERENCES topics(id),
  topic TEXT NOT NULL,
  seq INTEGER NOT NULL,                            -- of the topic's last message
  time INTEGER NOT NULL,                           -- receipt, Unix nanoseconds, UTC
  payload ANY
) STRICT;
`

// latest is the topics that the open transaction has seen. Each is written once,
// before the commit, from the row of its last message.
type latest struct {
	on     bool
	topics []*entry
	write  *sql.Stmt
	time   cell[int64]
}

func (l *latest) declaration() string { return `CREATE TABLE x(seq)` }
func (l *latest) rows() int           { return len(l.topics) }
func (l *latest) rowid(row int) int64 { return int64(row) }

func (l *latest) column(row, _ int) driver.Value { return l.time.set(int64(l.topics[row].last)) }

// saw notes that the record is the topic's newest.
func (l *latest) saw(topic *entry, seq mqttetl.Seq) {
	if !l.on {
		return
	}
	if topic.last == 0 {
		l.topics = append(l.topics, topic)
	}
	topic.last = seq
}

func (l *latest) forget() {
	for _, t := range l.topics {
		t.last = 0
	}
	clear(l.topics)
	l.topics = l.topics[:0]
}

const latestRows = ` SELECT m.topic_id, t.topic, m.seq, m.time, m.payload `

func (a *Archive) prepareLatest() (err error) {
	l := &a.latest
	if l.on = a.options.Latest; !l.on {
		return nil
	}
	l.time = newCell[int64]()
	if err := a.show("newest", l); err != nil {
		return err
	}
	l.write, err = a.prepareOne(`INSERT OR REPLACE INTO latest` + latestRows + `
		FROM temp.newest n CROSS JOIN messages m ON m.seq = n.seq CROSS JOIN topics t ON t.id = m.topic_id`)
	return err
}

func (a *Archive) writeLatest() error {
	l := &a.latest
	if len(l.topics) == 0 {
		return nil
	}
	slices.SortFunc(l.topics, func(a, b *entry) int { return cmp.Compare(a.last, b.last) })
	a.txBytes += int64(len(l.topics)) * 4 * rowOverhead
	_, err := l.write.ExecContext(background)
	if err == nil {
		l.forget()
	}
	return err
}

// latestBack is how many of the newest records are looked through when latest
// is switched on for an archive that has some.
const latestBack = 1_000_000

// catchUpLatest takes into latest the records that were archived while it was
// off: its newest row is otherwise that of the last message.
func (a *Archive) catchUpLatest() error {
	if !a.latest.on || a.cursor == 0 {
		return nil
	}
	var upTo sql.Null[int64]
	if err := a.conn.QueryRowContext(background, `SELECT max(seq) FROM latest`).Scan(&upTo); err != nil {
		return err
	}
	last, err := a.lastRow()
	if err != nil || upTo.V >= int64(last) {
		return err
	}
	from := max(upTo.V, int64(last)-latestBack)
	_, err = a.conn.ExecContext(background, `INSERT OR REPLACE INTO latest`+latestRows+`
		FROM (SELECT max(seq) AS seq FROM messages WHERE seq > ? GROUP BY topic_id) n
		CROSS JOIN messages m ON m.seq = n.seq CROSS JOIN topics t ON t.id = m.topic_id`, from)
	return err
}
