package wal

import (
	"errors"
	"testing"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// TestReadAfterPanicIsIOError: a consumer can be the first to meet what a failed
// write of a meta page did to the environment.
func TestReadAfterPanicIsIOError(t *testing.T) {
	l, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = l.view(func(*lmdb.Txn) error { return &lmdb.OpError{Op: "mdb_txn_begin", Errno: lmdb.Panic} })
	var code unix.Errno
	if !errors.As(err, &code) || code != unix.EIO || mqttetl.Hint(err) == "" {
		t.Errorf("the error is %v", err)
	}
}

// TestFailedCommitIsIOError: whatever LMDB calls it, so that the process ends
// with the exit code of an I/O error.
func TestFailedCommitIsIOError(t *testing.T) {
	for _, err := range []error{unix.EIO, unix.EINTR, lmdb.Panic} {
		l, e := Open(t.TempDir(), Options{})
		if e != nil {
			t.Fatal(e)
		}
		l.update = func(lmdb.TxnOp) error { return &lmdb.OpError{Op: "mdb_txn_commit", Errno: err} }
		b, _ := batch("s", "x")
		got := l.commitAll(t.Context(), []*mqttetl.Batch{b})
		var code unix.Errno
		if !errors.As(got, &code) || code != unix.EIO {
			t.Errorf("%v: the log's error is %v", err, got)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
