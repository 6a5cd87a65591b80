package wal

import (
	"crypto/sha256"
	"fmt"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
)

// Note returns the value of the note of that name, nil if there is none, as of
// the last commit.
func (l *Log) Note(name string) (value []byte, err error) {
	err = l.view(func(txn *lmdb.Txn) error {
		value, err = txn.Get(l.dbs.meta, noteKey(name))
		return err
	})
	if lmdb.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read note %q: %w", name, err)
	}
	return value, nil
}

// writeNotes writes the notes of the batches, in their order.
func (t *transaction) writeNotes(txn *lmdb.Txn) error {
	for _, b := range t.group {
		if b.Note.Name == "" {
			continue
		}
		if err := writeNote(txn, t.log.dbs.meta, b.Note); err != nil {
			return err
		}
	}
	return nil
}

func writeNote(txn *lmdb.Txn, meta lmdb.DBI, n mqttetl.Note) error {
	if len(n.Value) > 0 {
		return txn.Put(meta, noteKey(n.Name), n.Value, 0)
	}
	if err := txn.Del(meta, noteKey(n.Name), nil); err != nil && !lmdb.IsNotFound(err) {
		return err
	}
	return nil
}

// noteKey is of fixed length, because a key of LMDB has 511 bytes.
func noteKey(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return append([]byte("note "), sum[:16]...)
}
