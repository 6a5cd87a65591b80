package wal

import (
	"fmt"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
)

// Reader reads a log that another process may be writing, and changes nothing
// in it. It has no position there: what it has not read yet may be trimmed. It
// belongs to one goroutine; after an error of opening the file again it can only
// be closed. A process that has the log open for writing must
// not open a Reader of it.
type Reader struct {
	dir     string
	r       *reader
	extract extract
}

// OpenReader opens the log in dir. Errors are those of Inspect.
func OpenReader(dir string) (*Reader, error) {
	r, err := openReader(dir)
	if err != nil {
		return nil, err
	}
	return &Reader{dir: dir, r: r}, nil
}

// ID is the random id of the log.
func (r *Reader) ID() string { return r.r.id }

// Bounds are the first and the last record that the log holds now, 0 and 0 if
// it is empty.
func (r *Reader) Bounds() (first, last mqttetl.Seq, err error) {
	err = r.current(func() error {
		return r.r.view(func(txn *lmdb.Txn) error {
			first, last, err = bounds(txn, r.r.dbs.segments)
			return err
		})
	})
	if err != nil {
		return 0, 0, fmt.Errorf("read log %s: %w", r.dir, err)
	}
	return first, last, nil
}

// Behind returns the next records behind after, in order and without holes: up
// to about 1 MiB, but at least one segment. They are valid until the next call.
// Without an error there is at least one: a caller asks only for records that
// Bounds has shown. An error wraps mqttetl.ErrTrimmed if they are gone by now,
// mqttetl.ErrDamaged if they are not what was written. No transaction is held
// when it returns.
func (r *Reader) Behind(after mqttetl.Seq) (recs []mqttetl.Record, err error) {
	err = r.current(func() error {
		recs, err = r.extract.behind(r.r.view, r.r.dbs.segments, after)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read log %s after record %d: %w", r.dir, after, err)
	}
	return recs, nil
}

// current calls f, and once more with the log opened anew if its file has
// outgrown the map.
func (r *Reader) current(f func() error) error {
	err := f()
	if !lmdb.IsMapResized(err) {
		return err
	}
	r.r.close() // before: an environment is open once in a process
	again, err := openReader(r.dir)
	if err != nil {
		r.r = &reader{}
		return err
	}
	r.r = again
	return f()
}

// Close gives the file back.
func (r *Reader) Close() { r.r.close() }
