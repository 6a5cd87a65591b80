package wal

import (
	"errors"
	"testing"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

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
