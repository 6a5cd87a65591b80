// Package batch drains the log into the archive.
//
// Its invariant: the archive's own cursor decides what comes next, and the log
// hears of a position only after the archive has committed it. So a record is
// one row whatever fails in between, and what is not archived yet stays in the
// log. An archive that cannot be used now is tried again for ever; one that
// does not belong to the log ends the batcher and is not touched.
//
// A new or restored archive is filled with what the log still holds. What it
// does not hold any more is noted in the archive as a gap and said in the
// program's log, never passed over in silence.
package batch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/news"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Records is the reading side of the log, for one consumer and one goroutine.
type Records interface {
	// Seek says that everything up to and including after is durably archived,
	// and returns the record that Next returns first: after+1, or the first one
	// the log still holds. From then on the log must keep what follows after
	// until Commit. If after is beyond its last record the error wraps
	// mqttetl.ErrForeign.
	Seek(after mqttetl.Seq) (next mqttetl.Seq, err error)
	// Next waits for records and returns at least one and up to max of them, in
	// order and without holes. They are valid until the next call of Next or
	// Seek. When ctx ends before there are any, it returns ctx's error.
	Next(ctx context.Context, max int) ([]mqttetl.Record, error)
	// Commit says that everything up to upTo is durably archived. It does not wait.
	Commit(upTo mqttetl.Seq)
	// Lag is the number of records after the last Commit or Seek, and the age
	// of the oldest of them. It is asked after an outage, not for each record.
	Lag() (records uint64, age time.Duration, err error)
}

// DeadLetters are those that the log keeps until they are in the archive.
type DeadLetters interface {
	HasDeadLetters() bool
	DeadLetters(max int) ([]mqttetl.DeadLetter, error)
	// DropDeadLetters forgets them, at once or later: until then they may be
	// returned again, also after a restart.
	DropDeadLetters([]mqttetl.DeadLetter)
}

// Log is what a Batcher reads: with package wal, a struct that embeds the
// consumer and the log.
type Log interface {
	Records
	DeadLetters
}

// Archive is where a Batcher keeps records. Its one writer is the Batcher, which
// closes it after any error and opens it again.
//
// An implementer guarantees that everything between two Commits, and the cursor,
// becomes durable at once or not at all, and that a record which does not follow
// the one before is refused with an error that wraps mqttetl.ErrForeign. What is
// handed over is copied before a method returns. Errors that pass by themselves
// wrap mqttetl.ErrUnavailable; those of package store say more.
type Archive interface {
	// Births are what routes remember, of the open transaction, too.
	transform.Births
	// Cursor is the last record that is durably archived, or was declared missing.
	Cursor() mqttetl.Seq
	// StartAt declares that the records up to next-1 will never come, and keeps
	// which they are.
	StartAt(next mqttetl.Seq) error
	Append([]mqttetl.Record) error
	// Keep keeps what was made of the records that were appended last, or earlier.
	Keep(*store.Made) error
	Commit() error
	// State is an error if the archive that is open cannot be found again by its
	// name: what it has committed may be lost when it is closed.
	State() (store.State, error)
	// Close undoes what was not committed.
	Close() error
}

// Config of a Batcher. A transaction is committed when it holds Count rows or
// 16 MiB, or when Period has passed since its first row was read.
type Config struct {
	Name string // of the archive, for people: its path
	// Open opens the archive, and makes it if there is none. Errors are those that
	// Run says, or pass by themselves.
	Open func(store.Options) (Archive, error)

	Count  int           // 0: 10,000
	Period time.Duration // 0: 250 ms

	Routes   *transform.Set // nil: none
	Readings bool           // every number of every message becomes a row of readings
	// ReadingsText: text that is a number is one, too.
	ReadingsText bool
	Latest       bool // the last message of each topic is a row of latest

	// Unborn is told which Sparkplug nodes have no birth. It does not wait, and
	// may be told of one many times. nil: nobody is told.
	Unborn func([]transform.Unborn)

	Logger  *slog.Logger // nil: discard
	Metrics *Metrics     // nil: not registered
}

const (
	defaultCount  = 10_000
	defaultPeriod = 250 * time.Millisecond

	maxBytes   = 16 << 20        // of topics, payloads and properties in a transaction
	idle       = 5 * time.Second // at most this long between two looks at dead letters and the file
	letterTime = time.Second     // at least this long between two transactions of dead letters
	maxLetters = 1000            // dead letters in a transaction
)

// Batcher moves records and dead letters from the log to the archive.
type Batcher struct {
	Config
	log Log

	state   state
	letters time.Time // when dead letters are looked for again
	page    int       // of dead letters: maxLetters
	used    bool      // the archive was open
	saidNew bool      // that the archive is new; it is no news after each failure of its first commit

	routeLimit time.Duration           // of jq, for tests; 0: the default
	failing    map[string]*news.Seldom // by route
	saidNotes  map[string]bool
	aside      news.Seldom
	walKept    uint64 // of the archive that is open, as counted
}

// New returns a Batcher. It does no I/O.
func New(c Config, log Log) *Batcher {
	if c.Count <= 0 {
		c.Count = defaultCount
	}
	if c.Period <= 0 {
		c.Period = defaultPeriod
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Routes == nil {
		c.Routes = &transform.Set{}
	}
	return &Batcher{Config: c, log: log, page: maxLetters, failing: map[string]*news.Seldom{}, saidNotes: map[string]bool{}}
}

// Run archives until ctx ends, and then returns nil after committing what it
// has read. It opens the archive itself, and again after each failure. A damaged
// archive is one of them: it must not hold up ingest and NATS, and the operator
// can move it away while the log keeps what it lacks. Run returns an error when
// trying again cannot help: one that wraps mqttetl.ErrForeign or
// store.ErrVersion, or any error of the log. One that wraps store.ErrTable is
// such an error when Run opens the archive for the first time, since the
// configuration is wrong; later another program has changed the table, which
// is an outage. Run may be called once.
func (b *Batcher) Run(ctx context.Context) error {
	wait := newBackoff()
	for first := true; ; first = false {
		err := b.session(ctx, wait)
		if errors.Is(err, store.ErrChanged) && ctx.Err() == nil {
			b.Logger.Debug("archive opened anew: its schema was changed", "path", b.Name)
			continue
		}
		b.state.closed(err)
		if err == nil {
			return nil
		}
		if final(err) || first && !b.used && errors.Is(err, store.ErrTable) {
			return fmt.Errorf("archive the log: %w", err)
		}
		b.Metrics.errors.Inc()
		b.outage(err)
		if !wait.Wait(ctx) {
			return nil
		}
	}
}

// logError marks an error of the log: opening the archive again does not mend it.
type logError struct{ error }

func (e logError) Unwrap() error { return e.error }

func final(err error) bool {
	if _, ok := errors.AsType[logError](err); ok {
		return true
	}
	return errors.Is(err, mqttetl.ErrForeign) || errors.Is(err, store.ErrVersion)
}

// session is one use of the archive, from opening it to its first failure or
// the end of ctx.
func (b *Batcher) session(ctx context.Context, wait *backoff.Backoff) (err error) {
	a, err := b.Open(b.options())
	if err != nil {
		return err
	}
	b.used = true
	// Closing rolls back. Its own failure loses nothing, but is worth a retry.
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := b.resume(a); err != nil {
		return err
	}
	r, err := b.router(a)
	if err != nil {
		return err
	}
	if r != nil {
		defer r.Close()
	}
	b.state.opened(a.Cursor())
	b.walKept = 0
	for ctx.Err() == nil {
		if err := b.step(ctx, a, r); err != nil {
			return err
		}
		wait.Reset()
		b.recovered(a.Cursor())
	}
	return nil
}

// step archives one transaction, or lets some idle time pass.
func (b *Batcher) step(ctx context.Context, a Archive, r *router) error {
	if err := b.moveLetters(a); err != nil {
		return err
	}
	wait := idle
	if d := time.Until(b.letters); d > 0 {
		wait = min(d, idle)
	}
	records, err := b.next(ctx, wait, b.Count)
	if err != nil {
		return err
	}
	state, err := a.State() // also when idle: a file that was deleted should come back by itself
	for err == nil && len(records) > 0 && ctx.Err() == nil {
		records, err = b.transaction(ctx, a, r, &state, records)
	}
	return err // what the end of ctx leaves is read again
}

// next is the log's Next within d. No records: the time has passed, or ctx has ended.
func (b *Batcher) next(ctx context.Context, d time.Duration, max int) ([]mqttetl.Record, error) {
	brief, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	records, err := b.log.Next(brief, max)
	if err == nil {
		return records, nil
	}
	// When the program stops, ctx ends a moment before brief, and the log may have closed in it.
	if brief.Err() != nil || ctx.Err() != nil {
		return nil, nil
	}
	return nil, logError{err}
}

// transaction archives the records and those that follow within the period. It
// returns those that were read and not archived, because the routes were slow.
func (b *Batcher) transaction(ctx context.Context, a Archive, r *router, state *store.State, records []mqttetl.Record) (left []mqttetl.Record, err error) {
	shared := state.Shared
	due := time.Now().Add(b.Period)
	if shared {
		due = time.Now().Add(min(b.Period, sharedPeriod))
	}
	b.state.reading(records[0].When())
	rows, size := 0, 0
	most := int(min(maxBytes, state.Room/8)) // on a disk that is nearly full, more than that might not go in at once
	for len(records) > 0 {
		n, err := b.append(ctx, a, r, records, due)
		if err != nil {
			return nil, err
		}
		rows, size = rows+n, size+bytesOf(records[:n])
		trickling := trickles(records[:n])
		records = records[n:]
		left := time.Until(due)
		if rows >= b.Count || size >= most || left <= 0 {
			break
		}
		if len(records) > 0 {
			continue
		}
		if trickling {
			backoff.Pause(ctx, min(left, gathering)) // nothing is committed before due anyway
		}
		records, err = b.next(ctx, time.Until(due), b.Count-rows)
		if err != nil && !errors.Is(err, mqttetl.ErrClosed) { // the last records of a log that has ended are committed
			return nil, err
		}
	}
	if *state, err = b.commit(a, rows); err != nil {
		return nil, err
	}
	b.routed(r)
	if shared {
		backoff.Pause(ctx, sharedGap)
	}
	return records, nil
}

// While a rerun rebuilds a table it needs the archive's write lock, too, and a
// transaction that waits for the end of its period has it all the time. So
// transactions are shorter then, and a gap follows each.
const (
	sharedPeriod = 50 * time.Millisecond
	sharedGap    = 25 * time.Millisecond
)

// Within the period, records that come few at a time and have just come are
// gathered for a moment: to take them commit by commit would cost more than their
// rows. A backlog is never waited for, because its records are older.
const (
	flood     = 512
	gathering = 5 * time.Millisecond
)

func trickles(records []mqttetl.Record) bool {
	n := len(records)
	return n > 0 && n < flood && time.Since(records[n-1].When()) < gathering
}

func (b *Batcher) commit(a Archive, rows int) (store.State, error) {
	begun := time.Now()
	if err := a.Commit(); err != nil {
		return store.State{}, err
	}
	state, err := a.State()
	if err != nil { // the rows are in a file without a name: the log must keep its records
		return state, err
	}
	b.Metrics.commitSeconds.Observe(time.Since(begun).Seconds())
	b.Metrics.commitMessages.Observe(float64(rows))
	b.Metrics.archived.Add(float64(rows))
	b.sayAside(state.SetAside)
	b.log.Commit(a.Cursor())
	b.state.committed(a.Cursor())
	b.sawWAL(state.Pending)
	return state, nil
}

// sayAside counts and tells what a row of the archive could not hold.
func (b *Batcher) sayAside(letters []mqttetl.DeadLetter) {
	if len(letters) == 0 {
		return
	}
	b.Metrics.aside.Add(float64(len(letters)))
	if b.aside.Count() == 0 {
		return
	}
	b.Logger.Warn("values that a row of the archive cannot hold were set aside; mqttetl dead-letters lists them, table mqttetl_raw holds them",
		"seq", letters[0].Seq, "reason", letters[0].Reason, "records", len(letters))
}

func bytesOf(records []mqttetl.Record) (n int) {
	for i := range records {
		n += len(records[i].Topic) + len(records[i].Payload) + len(records[i].Properties)
	}
	return n
}

// moveLetters moves dead letters from the log to the archive, at most once in
// letterTime: the log may take a moment to forget those it was told to drop.
// Where there are more of them it is shorter: every record may be one.
func (b *Batcher) moveLetters(a Archive) error {
	if time.Now().Before(b.letters) || !b.log.HasDeadLetters() {
		return nil
	}
	letters, err := b.log.DeadLetters(b.page)
	if err != nil {
		return logError{err}
	}
	b.letters = time.Now().Add(letterTime)
	if len(letters) == b.page {
		b.letters = time.Now().Add(letterTime / 50)
	}
	if err := a.Keep(&store.Made{Letters: letters}); err != nil {
		return err
	}
	if err := a.Commit(); err != nil {
		return err
	}
	b.log.DropDeadLetters(letters)
	return nil
}

// resume has the log continue where the archive ends, and notes in the archive
// which records the log no longer has.
func (b *Batcher) resume(a Archive) error {
	cursor := a.Cursor()
	next, err := b.log.Seek(cursor)
	if errors.Is(err, mqttetl.ErrForeign) {
		err = mqttetl.WithHint(fmt.Errorf("archive %s is ahead of the log: %w", b.Name, err),
			"restore the log that filled the archive, or set archive.path to a new file")
	}
	if err != nil {
		return logError{err}
	}
	if err := a.StartAt(next); err != nil {
		return err
	}
	if err := a.Commit(); err != nil {
		return err
	}
	b.Metrics.missing.Add(float64(next - cursor - 1))
	switch {
	case next > cursor+1 && cursor == 0:
		b.Logger.Warn("archive is new: filling it with what the log still holds", "path", b.Name, "from_seq", next, "missing_up_to", next-1)
	case next > cursor+1:
		b.Logger.Warn("archive has a gap: the log no longer holds these records", "path", b.Name, "from_seq", next, "missing_from", cursor+1, "missing_up_to", next-1)
	case cursor == 0 && b.saidNew:
	case cursor == 0:
		b.Logger.Info("archive is new", "path", b.Name, "from_seq", next)
	default:
		b.Logger.Debug("archive continues", "path", b.Name, "from_seq", next)
	}
	b.saidNew = cursor == 0
	return nil
}
