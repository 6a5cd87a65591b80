package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
)

// Log takes what is imported.
type Log interface {
	// Append takes a batch and calls its Done once, in the order of the calls,
	// when the batch and its note are on disk.
	Append(b *mqttetl.Batch)
	// Note returns the note of a batch that was committed last under the name.
	Note(name string) ([]byte, error)
}

// Config says what is imported, and how.
type Config struct {
	Name    string    // of the file, for messages and for resuming
	In      io.Reader // plain, gzip or zstd
	Format  string    // "", which looks at the beginning, "ndjson", "csv", "owntracks", or a format of mosquitto_sub -F
	Columns string    // NDJSON and CSV: field=name, separated by commas; a payload may be name:base64, …
	Header  string    // CSV without a header: the names of the columns, separated by commas
	Topic   string    // of lines that name none; "": these are rejected
	// TimeFormat is how times are written, as of strftime(3), or unix, unix_ms,
	// unix_us, unix_ns; "": the forms that are known.
	TimeFormat string
	// Separator of CSV, 0: a comma, or what stands in a header with a column topic.
	Separator byte
	Source    string         // recorded for lines that name none
	Zone      *time.Location // of times that name none, nil: UTC
	Rejected  string         // file for the lines that could not be read
	Shared    bool           // it holds those of other files too: it is added to, and lines are named with their file
	Resume    bool           // go on where an import of the same file ended
	// Dry, if not nil, gets every record, and nothing is imported or written.
	Dry func(*mqttetl.Record) error
	// Bad, if not nil, is told of every line that could not be read, and why.
	Bad func(line int64, why error)
}

// Stats count lines.
type Stats struct {
	Lines, Imported, Rejected int64
	Before                    int64 // lines that an earlier import has read
	Bytes                     int64 // of the text
	Done                      bool  // the earlier import had come to the end
	Again                     int64 // without Resume: lines that an earlier import has read, and this one too

	Untimed  int64    // imported lines without a time, which got the present one
	TimeName string   // a member or column of the first of them that may be its time
	Zoneless int64    // imported lines whose time named no zone
	Twice    int64    // of them, those at a time that the clocks showed twice
	Unseen   []string // what Columns names and no line of JSON has had: qos=name
}

// Add adds what was counted of another file.
func (s *Stats) Add(o *Stats) {
	s.Imported += o.Imported
	s.Rejected += o.Rejected
	s.Before += o.Before
	s.Untimed += o.Untimed
	s.Zoneless += o.Zoneless
	s.Twice += o.Twice
	s.Unseen = append(s.Unseen, o.Unseen...)
	if s.TimeName == "" {
		s.TimeName = o.TimeName
	}
}

const (
	batchBytes   = 512 << 10
	batchRecords = 8192
	flightBytes  = 16 << 20 // handed to the log and not committed
	flightCount  = 4096
)

// Importer imports one file.
type Importer struct {
	cfg   Config
	log   Log
	lines *lines
	reader
	parse parser
	table *table      // nil for anything but CSV
	text  *textFormat // nil for NDJSON and CSV
	clock clock
	at    position
	known bool     // at is from the log
	again position // without Resume: what an earlier import has read
	bad   *rejects
	batch *mqttetl.Batch

	unclosed bool // the text has ended in a quoted field
	last     bool // the text has ended after a message that could go on
	begins   bool // the next line is known to begin a message
	torn     bool // the message goes on in lines that no one can tell from messages

	mu     sync.Mutex
	stats  Stats
	bytes  int // in flight
	count  int
	failed error
	moved  chan struct{} // holds one token after a batch is done
	free   []*mqttetl.Batch
}

// New looks at the beginning of the file and finds out what it is, and where to
// go on if it is to be resumed. Nothing is written.
func New(cfg Config, log Log) (*Importer, error) {
	m := &Importer{cfg: cfg, log: log, moved: make(chan struct{}, 1)}
	if err := m.open(); err != nil {
		return nil, fmt.Errorf("import %s: %w", cfg.Name, err)
	}
	return m, nil
}

func (m *Importer) open() error {
	l, head, err := newLines(m.cfg.In)
	if err != nil {
		return err
	}
	m.lines = l
	if m.reader, err = m.cfg.reader(); err != nil {
		return err
	}
	m.clock.zone = m.cfg.Zone
	if err := m.choose(head); err != nil {
		return err
	}
	m.at.HeadBytes, m.at.Head, m.at.RejectedFile = len(head), fingerprint(head), m.cfg.shared()
	if m.lines.open == 0 { // a header that may still grow has not been read
		m.took()
	}
	if m.cfg.Dry != nil {
		return nil
	}
	return m.recall(head)
}

// shared is the name of the file of rejected lines, "" if it is this file's own.
func (c *Config) shared() string {
	if c.Shared {
		return c.Rejected
	}
	return ""
}

// Stats is how far it has come.
func (m *Importer) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// Run imports to the end of the file, or until ctx ends or something fails.
// Rejected lines are no failure. When it returns, also after a failure, all that
// was handed to the log has been answered; if ctx has ended and the log is full,
// the rest is when that is closed.
func (m *Importer) Run(ctx context.Context) (err error) {
	if m.cfg.Dry == nil {
		if err = m.openRejects(ctx); err != nil {
			return fmt.Errorf("import %s: %w", m.cfg.Name, err)
		}
		defer m.bad.close()
	}
	err = m.read(ctx)
	m.show()
	end := errors.Is(err, io.EOF)
	if end {
		err = nil
		if m.table == nil && m.text == nil && m.stats.Imported > 0 {
			m.stats.Unseen = m.unseen()
		}
	}
	if m.cfg.Dry == nil && ctx.Err() == nil {
		m.at.Done = end
		err = errors.Join(err, m.hand(ctx), m.drain(ctx))
	} else if m.cfg.Dry == nil {
		cause := context.Cause(ctx)
		if err = m.drain(ctx); !errors.Is(err, cause) {
			err = errors.Join(cause, err)
		}
	}
	if err != nil {
		return fmt.Errorf("import %s, after line %d: %w", m.cfg.Name, m.at.Lines, err)
	}
	return nil
}

// read reads lines until the end, which is io.EOF.
func (m *Importer) read(ctx context.Context) error {
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		line, err := m.line()
		if errors.Is(err, errLong) {
			err = m.reject(err, nil)
		} else if err == nil {
			err = m.one(ctx, line)
		}
		if err != nil {
			return err
		}
		m.took()
		if n%1024 == 0 {
			m.show()
		}
	}
}

// took moves the position behind the line that has been read.
func (m *Importer) took() {
	m.at.Lines, m.at.Offset, m.at.Sum = m.lines.number, m.lines.offset, m.lines.sum
	m.at.Open = m.lines.open
	if m.at.Offset == m.again.Offset && m.at.Sum == m.again.Sum && m.again.Imported > 0 {
		m.mu.Lock()
		m.stats.Again = m.again.Lines
		m.mu.Unlock()
	}
}

// show brings the stats up to date.
func (m *Importer) show() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Lines, m.stats.Bytes = m.at.Lines-m.stats.Before, m.at.Offset
}

// one imports a line or rejects it. Empty lines are passed over.
func (m *Importer) one(ctx context.Context, line []byte) error {
	if len(line) == 0 {
		return nil
	}
	if m.torn {
		m.torn = false
		return m.reject(errTorn, line)
	}
	e, err := m.parse(line)
	if err != nil {
		return m.reject(err, line)
	}
	twice := false
	switch {
	case !e.timed:
		e.time = time.Now().UnixNano()
		m.untimed(line)
	case e.wall:
		if e.time, twice, err = m.clock.instant(e.time); err != nil {
			return m.reject(err, line)
		}
	}
	if e.source == "" {
		e.source = m.cfg.Source
	}
	if m.cfg.Dry != nil {
		err = m.cfg.Dry(&mqttetl.Record{Time: e.time, Source: e.source, Message: e.Message})
	} else {
		err = m.add(ctx, &e)
	}
	m.at.Imported++
	m.at.Clock, m.at.Trend = m.clock.last, m.clock.trend
	m.counted(&e, twice)
	return err
}

// add puts a message into the open batch, which is of one source.
func (m *Importer) add(ctx context.Context, e *entry) error {
	b := m.batch
	if b != nil && (b.Source != e.source || b.Size() >= batchBytes || b.Len() >= batchRecords || b.Size() > 0 && b.Size()+len(e.Payload) > 2*batchBytes) {
		if err := m.hand(ctx); err != nil {
			return err
		}
		b = nil
	}
	if b == nil {
		b = m.take()
		b.Source = e.source
		m.batch = b
	}
	b.Append(e.time, e.Message)
	return nil
}

// reject writes a line down.
func (m *Importer) reject(why error, line []byte) error {
	m.at.Rejected++
	m.mu.Lock()
	m.stats.Rejected++
	m.mu.Unlock()
	if m.cfg.Bad != nil {
		m.cfg.Bad(m.lines.number, why)
	}
	if m.bad == nil {
		return nil
	}
	return m.bad.add(m.lines.number, why, line)
}
