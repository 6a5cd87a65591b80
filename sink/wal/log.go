package wal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/news"
)

// Options for Open.
type Options struct {
	// MaxSize is the number of bytes of live pages at which appends pause.
	// 0 means DefaultMaxSize. The file may be a few transactions larger.
	MaxSize int64
	// Consumers are all that read this log. Nothing is trimmed that one of them
	// is not durably past; with none, nothing is trimmed at all. Stored positions
	// of consumers that are not named are dropped.
	Consumers []string
	// Drain is the one of them, if any, that stores what it reads on the log's own
	// file system. The log leaves it the room for that.
	Drain string
	// MostDead is how many dead letters are kept, the newest; 0: all. It is for a log
	// from which nobody takes them.
	MostDead int
	// Interval is the time in which at most one commit begins while no batch is
	// handed over that somebody waits for (mqttetl.Batch.Patient). 0: each commit
	// begins when the one before has ended.
	Interval time.Duration

	Logger  *slog.Logger // nil: nothing is logged
	Metrics *Metrics     // nil: nothing is counted
}

// Log is an append log. Its methods may be called from any goroutine unless
// they say otherwise.
type Log struct {
	dir     string
	id      string
	key     []byte
	maxSize int64

	mostDead int // of Options

	log     *slog.Logger
	metrics *Metrics

	lock *os.File
	env  *lmdb.Env
	dbs  dbs
	room *room

	interval time.Duration
	begun    time.Time // of the last commit; owned by Run

	mapped int64 // size of the map, which the file cannot outgrow; owned by Run
	narrow bool  // it is smaller than fileLimit, because the disk is full
	at     *place

	drain *drain // nil: no consumer stores on the log's file system

	update func(lmdb.TxnOp) error // env.Update, but for tests of what a failing one does

	queue     queue
	consumers []*Consumer   // fixed after Open
	wake      chan struct{} // a consumer moved, or dead letters changed
	moved     chan struct{} // holds a token after Look

	slots   chan *lmdb.Txn         // of readers, see read
	watched map[snapshot]time.Time // since when others hold theirs; owned by Run
	watch   time.Time              // when that was looked at last; owned by Run
	use     sync.RWMutex           // held for reading by every read, so that Close waits for them
	closed  bool                   // guarded by use

	// txn is held while a write transaction runs and its outcome is taken over,
	// so that Seek sees first and the positions as one.
	txn sync.Mutex

	state   sync.Mutex // guards what follows
	first   mqttetl.Seq
	last    mqttetl.Seq
	pages   int64 // live pages of segments, in bytes
	file    int64 // up to the last page
	heldBy  string
	paused  string
	full    news.Trouble  // what is said of pauses
	old     news.Trouble  // and of old snapshots
	changed chan struct{} // closed at the next commit; nil while nobody waits
	dead    deadLetters

	committing atomic.Int64  // Unix nanoseconds since when a commit runs, 0 when idle
	done       chan struct{} // closed when Run has ended
	trimmedTo  mqttetl.Seq   // the position up to which trimming has been done; owned by Run
	segments   int           // in the log; owned by Run
	passes     int           // of putInOrder since the last append; owned by Run
}

// Stats is the state of a log at one moment.
type Stats struct {
	First, Last mqttetl.Seq // 0, 0 while the log is empty
	Bytes       int64       // of live segment pages in the file
	File        int64       // of the file up to its last page, free pages included
	HeldBy      string      // who keeps free pages from being used again, with an old snapshot; "": nobody
	Paused      bool        // appends wait for room
	PauseReason string      // why, for a person; "" if not paused
	Queued      int         // batches handed over and not committed
	// CommittingSince is when the running transaction began, zero between two.
	// A paused log is between two.
	CommittingSince time.Time
}

// Open opens the log in dir and makes a new one if there is none. An error
// wraps mqttetl.ErrLocked if another process has it, mqttetl.ErrDamaged if it
// cannot be trusted.
func Open(dir string, o Options) (_ *Log, err error) {
	if err := makeDir(dir); err != nil {
		return nil, mqttetl.WithHint(fmt.Errorf("open log %s: %w", dir, err), "log.dir must be a directory that this user may write")
	}
	l := &Log{
		dir:     dir,
		maxSize: o.MaxSize, mostDead: o.MostDead, interval: o.Interval,
		log:     o.Logger,
		metrics: o.Metrics,
		queue:   queue{ready: make(chan struct{}, 1)},
		wake:    make(chan struct{}, 1),
		moved:   make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	if l.maxSize <= 0 {
		l.maxSize = DefaultMaxSize(dir)
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.metrics == nil {
		l.metrics = NewMetrics(nil)
	}
	if l.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if err := l.openFile(); err != nil {
		return nil, err
	}
	if err := l.load(o.Consumers); err != nil {
		return nil, fmt.Errorf("open log %s: %w", dir, err)
	}
	if err := l.loadKey(); err != nil {
		return nil, fmt.Errorf("open log %s: %w", dir, err)
	}
	if o.Drain != "" {
		l.drain = &drain{Consumer: l.Consumer(o.Drain)}
	}
	l.metrics.Bytes.Set(float64(l.pages))
	return l, l.measure()
}

// openFile makes the environment if it is missing and opens it.
func (l *Log) openFile() error {
	there, err := exists(l.dir)
	if err == nil && !there {
		err = create(l.dir)
	}
	if err == nil {
		err = checkExtent(l.dir)
	}
	if err != nil {
		return fmt.Errorf("open log %s: %w", l.dir, err)
	}
	_, size, err := fileExtent(filepath.Join(l.dir, dataFile))
	if err != nil {
		return err
	}
	forgetHead(l.dir)
	l.mapped = max(l.fileLimit(0), size)
	if l.env, err = openEnv(l.dir, l.mapped, envFlags); err != nil {
		return err
	}
	if _, err := l.env.ReaderCheck(); err != nil { // slots of readers that were killed
		return fmt.Errorf("open log %s: %w", l.dir, err)
	}
	if err := withSlot(l.env, l.dir, func() error { return checkTrees(l.env, l.dir) }); err != nil {
		return fmt.Errorf("open log %s: %w", l.dir, err)
	}
	if err := withSlot(l.env, l.dir, l.takeSlots); err != nil {
		return fmt.Errorf("open log %s: %w", l.dir, err)
	}
	// A kill between the write of a commit and its sync leaves one that only the
	// page cache has. No consumer may be told of it before the drive has it too.
	if err := l.env.Sync(true); err != nil {
		return fmt.Errorf("open log %s: %w", l.dir, driveError{err})
	}
	l.update = l.env.Update
	if l.room, err = newRoom(l.env); err != nil {
		return err
	}
	l.at, err = newPlace(l.dir, l.room.fd)
	return err
}

// load reads the state of the log and settles who its consumers are.
func (l *Log) load(consumers []string) error {
	return l.env.Update(func(txn *lmdb.Txn) (err error) {
		if l.dbs, l.id, err = openDBs(txn); err != nil {
			return err
		}
		if l.first, l.last, err = bounds(txn, l.dbs.segments); err != nil {
			return err
		}
		if l.pages, err = livePages(txn, l.dbs.segments); err != nil {
			return err
		}
		if l.segments, err = countEntries(txn, l.dbs.segments); err != nil {
			return err
		}
		stored, err := readCursors(txn, l.dbs.cursors)
		if err != nil {
			return err
		}
		for _, name := range consumers {
			pos := stored[name]
			l.consumers = append(l.consumers, newConsumer(l, name, pos))
			delete(stored, name)
		}
		for name, pos := range stored {
			l.log.Warn("a consumer is no longer configured; its position is dropped", "consumer", name, "position", pos)
			if err := txn.Del(l.dbs.cursors, []byte(name), nil); err != nil {
				return err
			}
		}
		l.dead.stored, err = countEntries(txn, l.dbs.dead)
		return err
	})
}

// bounds reads the first and the last Seq of the log and checks its last segment.
func bounds(txn *lmdb.Txn, segments lmdb.DBI) (first, last mqttetl.Seq, err error) {
	txn.RawRead = true
	cur, err := txn.OpenCursor(segments)
	if err != nil {
		return 0, 0, err
	}
	defer cur.Close()
	if first, err = firstSeq(txn, segments); first == 0 || err != nil {
		return 0, 0, err
	}
	key, val, err := cur.Get(nil, nil, lmdb.Last)
	if err != nil {
		return 0, 0, err
	}
	at, err := keySeq(key)
	if err != nil {
		return 0, 0, err
	}
	s, err := parseSegment(at, val)
	if err != nil {
		return 0, 0, err
	}
	return first, s.last(), nil
}

// firstSeq is the first Seq of the log, 0 if it is empty.
func firstSeq(txn *lmdb.Txn, segments lmdb.DBI) (first mqttetl.Seq, err error) {
	err = each(txn, segments, nil, func(key, _ []byte) (bool, error) {
		first, err = keySeq(key)
		return false, err
	})
	return first, err
}

// livePages is the size in bytes of the pages that a database occupies.
func livePages(txn *lmdb.Txn, dbi lmdb.DBI) (int64, error) {
	st, err := txn.Stat(dbi)
	if err != nil {
		return 0, err
	}
	return int64(st.BranchPages+st.LeafPages+st.OverflowPages) * int64(st.PSize), nil
}

func countEntries(txn *lmdb.Txn, dbi lmdb.DBI) (int, error) {
	st, err := txn.Stat(dbi)
	if err != nil {
		return 0, err
	}
	return int(st.Entries), nil
}

// readCursors reads the stored position of every consumer.
func readCursors(txn *lmdb.Txn, cursors lmdb.DBI) (map[string]mqttetl.Seq, error) {
	m := map[string]mqttetl.Seq{}
	err := each(txn, cursors, nil, func(key, val []byte) (bool, error) {
		if len(val) != 8 {
			return false, fmt.Errorf("cursor %q of %d bytes: %w", key, len(val), mqttetl.ErrDamaged)
		}
		m[string(key)] = mqttetl.Seq(binary.BigEndian.Uint64(val))
		return true, nil
	})
	return m, err
}

// each calls fn for every entry of dbi whose key is not less than from, in
// order, until it returns false. Key and value are valid within the call.
func each(txn *lmdb.Txn, dbi lmdb.DBI, from []byte, fn func(key, val []byte) (bool, error)) error {
	defer func(was bool) { txn.RawRead = was }(txn.RawRead)
	txn.RawRead = true
	cur, err := txn.OpenCursor(dbi)
	if err != nil {
		return err
	}
	defer cur.Close()
	op := uint(lmdb.First)
	if len(from) > 0 {
		op = lmdb.SetRange
	}
	for key, val, err := cur.Get(from, nil, op); ; key, val, err = cur.Get(nil, nil, lmdb.Next) {
		if lmdb.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if more, err := fn(key, val); err != nil || !more {
			return err
		}
	}
}

// view is env.View on a log that is open.
func (l *Log) view(op lmdb.TxnOp) error {
	l.use.RLock()
	defer l.use.RUnlock()
	if l.closed {
		return fmt.Errorf("read log: %w", mqttetl.ErrClosed)
	}
	err := l.read(op)
	if errno(err) == lmdb.Panic { // a meta page could not be written: the commit that met it ends Run
		err = mqttetl.WithHint(driveError{err}, "what is acknowledged is safe; look at the drive (dmesg) before starting again")
	}
	return err
}

// Close gives back the file and its lock. Run must have ended. Reads that are
// under way are waited for, later ones fail with mqttetl.ErrClosed.
func (l *Log) Close() error {
	l.queue.close()
	l.use.Lock()
	defer l.use.Unlock()
	l.closed = true
	l.dropSlots()
	var err error
	if l.env != nil {
		err = l.env.Close()
	}
	return errors.Join(err, unlock(l.lock))
}

// MaxSize is the size in bytes at which appends pause, given or by default.
func (l *Log) MaxSize() int64 { return l.maxSize }

// Dir is the directory of the log.
func (l *Log) Dir() string { return l.dir }

// ID is the random id that the log was given when it was made, 16 hexadecimal
// digits. It stays when the log is moved or renamed.
func (l *Log) ID() string { return l.id }

// Stats returns the state of the log.
func (l *Log) Stats() Stats {
	l.state.Lock()
	s := Stats{
		First:       l.first,
		Last:        l.last,
		Bytes:       l.pages,
		File:        l.file,
		HeldBy:      l.heldBy,
		Paused:      l.paused != "",
		PauseReason: l.paused,
	}
	l.state.Unlock()
	s.Queued = l.queue.len()
	if t := l.committing.Load(); t != 0 {
		s.CommittingSince = time.Unix(0, t)
	}
	return s
}

// Consumer returns the consumer of that name, which Options.Consumers must list.
func (l *Log) Consumer(name string) *Consumer {
	i := slices.IndexFunc(l.consumers, func(c *Consumer) bool { return c.name == name })
	if i < 0 {
		panic("wal: consumer " + name + " is not in Options.Consumers")
	}
	return l.consumers[i]
}

// PacketIDs returns the packet ids of a session for which a PUBREC is due or
// sent, as of the last commit. An id is in the set exactly if the record that
// it came with is in the log and its PUBREL has not been committed.
func (l *Log) PacketIDs(session string) ([]uint16, error) {
	prefix := sessionPrefix(session)
	var ids []uint16
	err := l.view(func(txn *lmdb.Txn) error {
		return each(txn, l.dbs.ids, prefix, func(key, _ []byte) (bool, error) {
			if !bytes.HasPrefix(key, prefix) || len(key) != len(prefix)+2 {
				return false, nil
			}
			ids = append(ids, binary.BigEndian.Uint16(key[len(prefix):]))
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read packet ids of session %q: %w", session, err)
	}
	return ids, nil
}

// sessionPrefix is what the keys of a session's packet ids begin with: of fixed
// length, because a key of LMDB has 511 bytes and a client id may have 65,535.
func sessionPrefix(session string) []byte {
	sum := sha256.Sum256([]byte(session))
	return sum[:16]
}

// wait returns when the log holds a record behind after, or with ctx.Err(), or
// with mqttetl.ErrClosed when nothing more will come.
func (l *Log) wait(ctx context.Context, after mqttetl.Seq) error {
	for {
		l.state.Lock()
		if l.last > after {
			l.state.Unlock()
			return nil
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		ch := l.changed
		l.state.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.done:
			if err := ctx.Err(); err != nil { // both, when the program stops
				return err
			}
			return fmt.Errorf("read log: %w", mqttetl.ErrClosed)
		}
	}
}
