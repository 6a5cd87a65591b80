package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// Info is what the files of a log say, read without opening it for writing.
type Info struct {
	ID          string
	First, Last mqttetl.Seq
	Bytes       int64  // of live segment pages
	File        int64  // of the file up to its last page
	HeldBy      string // who holds an old snapshot, so that free pages cannot be used again; "": nobody
	Cursors     map[string]mqttetl.Seq
	DeadLetters int
}

// Inspect reads the state of the log in dir, which may be in use by another
// process but not by this one, and changes nothing in it. It returns in time that does not depend
// on the size of the log.
func Inspect(dir string) (Info, error) {
	r, err := openReader(dir)
	if err != nil {
		return Info{}, err
	}
	defer r.close()
	return r.info()
}

// Problem is one place where a log is not what it should be.
type Problem struct {
	Seq  mqttetl.Seq // the record at or before which it is
	Text string
}

// Report is the outcome of Verify.
type Report struct {
	Info
	Segments int
	Records  int
	Problems []Problem
}

// Verify reads every segment of the log in dir and checks its checksum, its
// records and that no Seq is missing, that no consumer is ahead of the log, and
// that the other databases can be read through.
// The log may be in use by another process, but not by this one; nothing is changed. progress, if
// not nil, is called now and then with the Seq that has been reached.
//
// An error means that the log cannot be read at all; it wraps
// mqttetl.ErrDamaged where damage is the reason. A damaged tree can end the
// process with SIGBUS or SIGSEGV: run Verify in a process of its own.
func Verify(dir string, progress func(mqttetl.Seq)) (Report, error) {
	r, err := openReader(dir)
	if err != nil {
		return Report{}, err
	}
	defer r.close()
	v := verifier{reader: r, progress: progress}
	if err := v.walk(); err != nil {
		return v.report, fmt.Errorf("read log %s at record %d: %w", dir, v.next, markDamage(err))
	}
	return v.report, nil
}

// reader is a log opened for reading only.
type reader struct {
	dir  string
	env  *lmdb.Env
	dbs  dbs
	id   string
	lock *os.File // held shared where LMDB's own lock file cannot be used
}

// readerMap is address space beyond the file, which may grow while it is read.
const readerMap = 4 << 30

func openReader(dir string) (r *reader, err error) {
	there, err := exists(dir)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, mqttetl.WithHint(fmt.Errorf("open log %s: %w", dir, os.ErrNotExist), "there is no log yet, or log.dir names another directory")
	}
	if err := refuseOwn(dir); err != nil {
		return nil, err
	}
	if err := checkExtent(dir); err != nil {
		return nil, err
	}
	_, size, err := fileExtent(filepath.Join(dir, dataFile))
	if err != nil {
		return nil, err
	}
	r = &reader{dir: dir}
	if err := r.open(dir, size); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// open opens the file of the given size. After an error, close.
func (r *reader) open(dir string, size int64) (err error) {
	r.env, err = openEnv(dir, size+readerMap, lmdb.Readonly)
	if e := errno(err); errors.Is(e, unix.EROFS) || errors.Is(e, unix.EACCES) || errors.Is(e, unix.EPERM) {
		err = r.openUnlocked(dir, size, e)
	}
	if err != nil {
		return err
	}
	if err = withSlot(r.env, dir, func() error { return checkTrees(r.env, dir) }); err == nil {
		err = r.view(func(txn *lmdb.Txn) (err error) {
			r.dbs, r.id, err = openDBs(txn)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("open log %s: %w", dir, err)
	}
	return nil
}

// refuseOwn refuses a log that this process has open for writing: LMDB keeps
// its readers by process, and closing a second environment would forget those
// of the first.
func refuseOwn(dir string) error {
	pid, err := os.ReadFile(filepath.Join(dir, lockFile))
	if err != nil || string(pid) != strconv.Itoa(os.Getpid()) {
		return nil
	}
	f, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return fmt.Errorf("read log %s: %w: this process has it open", dir, mqttetl.ErrLocked)
	}
	return nil
}

// openUnlocked opens a log whose lock file cannot be written, for the reason
// why, which is safe only while no other process writes the log.
func (r *reader) openUnlocked(dir string, size int64, why error) (err error) {
	if r.lock, err = os.Open(filepath.Join(dir, lockFile)); err == nil {
		if err := unix.Flock(int(r.lock.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
			return mqttetl.WithHint(fmt.Errorf("read log %s beside the process that has it open: write %s: %w", dir, filepath.Join(dir, readersFile), why),
				"run this as root, or as the user of the service")
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	r.env, err = openEnv(dir, size+readerMap, lmdb.Readonly|lmdb.NoLock)
	return err
}

func (r *reader) close() {
	if r.env != nil {
		r.env.Close()
	}
	if r.lock != nil {
		_ = unlock(r.lock)
	}
}

// info is what is known without reading more than the last segment.
func (r *reader) info() (i Info, err error) {
	err = r.view(func(txn *lmdb.Txn) (err error) {
		if i, err = r.bookkeeping(txn); err != nil {
			return err
		}
		i.First, i.Last, err = bounds(txn, r.dbs.segments)
		return err
	})
	if err == nil {
		i.File, err = (&room{env: r.env}).end()
		i.HeldBy = held(r.env)
	}
	return i, err
}

// view is env.View that waits for a slot.
func (r *reader) view(op lmdb.TxnOp) error {
	return withSlot(r.env, r.dir, func() error { return r.env.View(op) })
}

// bookkeeping is what is known without reading a segment.
func (r *reader) bookkeeping(txn *lmdb.Txn) (i Info, err error) {
	i.ID = r.id
	if i.Bytes, err = livePages(txn, r.dbs.segments); err != nil {
		return i, err
	}
	if i.DeadLetters, err = countEntries(txn, r.dbs.dead); err != nil {
		return i, err
	}
	i.Cursors, err = readCursors(txn, r.dbs.cursors)
	return i, err
}

// verifier walks over a log.
type verifier struct {
	*reader
	progress func(mqttetl.Seq)
	report   Report
	next     mqttetl.Seq // the record expected next, 0 if any
	recs     []mqttetl.Record

	copied  []copied
	buf     []byte
	trimmed bool // before what was copied
}

// walk checks the whole log in a row of short transactions.
func (v *verifier) walk() error {
	from := mqttetl.Seq(0)
	for more := true; more; {
		if err := v.view(func(txn *lmdb.Txn) (err error) {
			if v.report.ID == "" {
				if v.report.Info, err = v.bookkeeping(txn); err != nil {
					return err
				}
			}
			from, more, err = v.chunk(txn, from)
			return err
		}); err != nil {
			return err
		}
		v.checkCopied()
		if v.progress != nil {
			v.progress(v.next)
		}
	}
	v.checkPositions()
	return v.view(v.otherTrees)
}

// otherTrees reads every page of the small databases: LMDB says where one is
// not what it wrote, as far as it can see that.
func (v *verifier) otherTrees(txn *lmdb.Txn) error {
	for name, dbi := range v.dbs.names() {
		if *dbi == v.dbs.segments {
			continue
		}
		n := 0
		if err := each(txn, *dbi, nil, func(_, _ []byte) (bool, error) { n++; return true, nil }); err != nil {
			v.problem(v.report.Last, fmt.Errorf("database %q, entry %d: %w", name, n, err))
		} else if want, err := countEntries(txn, *dbi); err != nil || n != want {
			v.problem(v.report.Last, errors.Join(fmt.Errorf("database %q holds %d entries, its root says %d", name, n, want), err))
		}
	}
	return nil
}

// chunk copies the segments whose key is from or higher, up to readSize bytes, and
// says where the next one goes on: what they hold is checked without a transaction,
// for the service cannot reuse freed pages while one is open.
func (v *verifier) chunk(txn *lmdb.Txn, from mqttetl.Seq) (to mqttetl.Seq, more bool, err error) {
	oldest, err := firstSeq(txn, v.dbs.segments)
	if err != nil {
		return from, false, err
	}
	v.copied, v.buf, v.trimmed = v.copied[:0], v.buf[:0], oldest > from
	if v.trimmed { // the service trimmed meanwhile: nothing is missing before it
		from = oldest
	}
	err = each(txn, v.dbs.segments, segmentKey(from), func(key, val []byte) (bool, error) {
		at, err := keySeq(key)
		if err == nil {
			to = at + 1
		}
		begin := len(v.buf)
		v.buf = append(v.buf, val...)
		v.copied = append(v.copied, copied{at, err, begin, len(v.buf)})
		more = len(v.buf) >= readSize
		return !more, nil
	})
	return to, more, err
}

// copied is a segment that stands in the verifier's buffer, or the error of its key.
type copied struct {
	at         mqttetl.Seq
	err        error
	begin, end int
}

// checkCopied checks what chunk has copied.
func (v *verifier) checkCopied() {
	if v.trimmed {
		v.next = 0
	}
	for _, c := range v.copied {
		if c.err != nil {
			v.problem(v.next, c.err)
			continue
		}
		v.segment(c.at, v.buf[c.begin:c.end])
	}
	if cap(v.buf) > keepSize {
		v.buf = nil
	}
}

// segment checks one segment.
func (v *verifier) segment(at mqttetl.Seq, val []byte) {
	switch {
	case v.report.First == 0:
		v.report.First = at
	case v.next != 0 && at > v.next:
		v.problem(v.next, fmt.Errorf("records %d to %d are missing", v.next, at-1))
	case at < v.next:
		v.problem(at, fmt.Errorf("segment at record %d overlaps the one before it", at))
	}
	s, err := parseSegment(at, val)
	if err == nil && s.count == 0 { // the mark of a log that was emptied
		v.next, v.report.Last = at, max(v.report.Last, at-1)
		return
	}
	v.report.Segments++
	v.report.Last = max(v.report.Last, at)
	if err == nil {
		v.recs, err = mqttetl.DecodeRecords(v.recs[:0], s.records, s.count, s.first, "")
	}
	if err != nil {
		v.problem(at, err)
		v.next = 0 // its length is not known
		return
	}
	v.next = s.last() + 1
	v.report.Last = max(v.report.Last, s.last())
	v.report.Records += s.count
}

func (v *verifier) problem(at mqttetl.Seq, err error) {
	v.report.Problems = append(v.report.Problems, Problem{at, err.Error()})
}

// checkPositions checks that no consumer claims what the log never held.
func (v *verifier) checkPositions() {
	for name, pos := range v.report.Cursors {
		if pos > v.report.Last {
			v.problem(v.report.Last, fmt.Errorf("consumer %q is at record %d, ahead of the last record %d", name, pos, v.report.Last))
		}
	}
}
