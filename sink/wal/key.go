package wal

import (
	"bytes"
	"crypto/rand"

	"github.com/PowerDNS/lmdb-go/lmdb"
)

// keySize is the length of the key in bytes.
const keySize = 16

// metaKey is the name of the key in the database meta.
var metaKey = []byte("key")

// loadKey reads the log's key. A log of an earlier build gets one; if there is no
// room for it this time, it is left without.
func (l *Log) loadKey() error {
	err := l.view(func(txn *lmdb.Txn) error {
		key, err := txn.Get(l.dbs.meta, metaKey)
		l.key = bytes.Clone(key)
		return err
	})
	if !lmdb.IsNotFound(err) {
		return err
	}
	key := newKey()
	if err := l.env.Update(func(txn *lmdb.Txn) error { return txn.Put(l.dbs.meta, metaKey, key, 0) }); err != nil {
		l.log.Warn("the log cannot be given a key: where a stream of NATS ends is not believed until the next start", "error", err)
		return nil
	}
	l.key = key
	return nil
}

func newKey() []byte {
	key := make([]byte, keySize)
	rand.Read(key)
	return key
}

// Key is the random key that the log was given when it was made, by which it
// recognises what it has written elsewhere. It is nowhere else, and never nil but
// after a full disk kept an older log from getting one.
func (l *Log) Key() []byte { return l.key }
