package wal

import (
	"fmt"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
)

// readSize is how many bytes of segments one read takes at the most, unless a
// single segment is larger.
const readSize = 1 << 20

// keepSize is the largest read buffer that is kept for the next read.
const keepSize = 4 << 20

// extract copies segments out of the map and decodes them. The records are
// valid until the next call of behind.
type extract struct {
	buf     []byte // copies of segments
	decoded []mqttetl.Record
	sources map[string]string // one string for each source name
}

// behind returns the next records behind read, of at least one segment. Where
// the log holds none it says why, as absent does.
func (x *extract) behind(view func(lmdb.TxnOp) error, segments lmdb.DBI, read mqttetl.Seq) ([]mqttetl.Record, error) {
	if cap(x.buf) > keepSize {
		x.buf, x.decoded = nil, nil
	}
	var found []segment
	if err := view(func(txn *lmdb.Txn) (err error) {
		found, err = x.copySegments(txn, segments, read)
		return err
	}); err != nil {
		return nil, err
	}
	x.decoded = x.decoded[:0]
	for i, s := range found {
		var err error
		if x.decoded, err = mqttetl.DecodeRecords(x.decoded, s.records, s.count, s.first, x.source(s.source)); err != nil {
			if i == 0 {
				return nil, fmt.Errorf("segment at record %d: %w: %w", s.first, mqttetl.ErrDamaged, err)
			}
			break
		}
	}
	return x.decoded[read+1-found[0].first:], nil
}

// copySegments copies the segments behind read, up to readSize bytes but at
// least one, and checks each: a transaction of its own would have to be held
// otherwise while the records are used, and pages freed meanwhile could not be
// reused.
func (x *extract) copySegments(txn *lmdb.Txn, segments lmdb.DBI, read mqttetl.Seq) ([]segment, error) {
	txn.RawRead = true
	cur, err := txn.OpenCursor(segments)
	if err != nil {
		return nil, err
	}
	defer cur.Close()
	s, err := find(cur, read+1)
	if err != nil {
		return nil, err
	}
	if s.count == 0 {
		return nil, absent(txn, segments, read+1)
	}
	var found []segment
	buf := x.buf[:0]
	for {
		// Growing buf leaves the segments before it in the array they were copied to.
		at := len(buf)
		buf = append(append(buf, s.source...), s.records...)
		mid := at + len(s.source)
		s.source, s.records = buf[at:mid:mid], buf[mid:]
		found = append(found, s)
		if len(buf) >= readSize {
			break
		}
		key, val, err := cur.Get(nil, nil, lmdb.Next)
		if lmdb.IsNotFound(err) || err == nil && len(buf)+len(val) > readSize {
			break
		}
		if err != nil {
			return nil, err
		}
		if s, err = follow(key, val, s.last()); err != nil {
			break // what is whole is served; the next call begins at the damage
		}
	}
	x.buf = buf
	return found, nil
}

// absent says why a record that was committed is not there.
func absent(txn *lmdb.Txn, segments lmdb.DBI, seq mqttetl.Seq) error {
	first, err := firstSeq(txn, segments)
	if err != nil {
		return err
	}
	if first > seq {
		return fmt.Errorf("record %d: %w, which begins at %d", seq, mqttetl.ErrTrimmed, first)
	}
	return fmt.Errorf("record %d is missing: %w", seq, mqttetl.ErrDamaged)
}

// follow checks the segment behind the record last, which it must continue.
func follow(key, val []byte, last mqttetl.Seq) (segment, error) {
	at, err := keySeq(key)
	if err != nil {
		return segment{}, err
	}
	s, err := parseSegment(at, val)
	if err == nil && s.first != last+1 {
		err = fmt.Errorf("records %d to %d are missing: %w", last+1, s.first-1, mqttetl.ErrDamaged)
	}
	return s, err
}

// source returns name as a string, the same one each time.
func (x *extract) source(name []byte) string {
	if s, ok := x.sources[string(name)]; ok {
		return s
	}
	s := string(name)
	if x.sources == nil {
		x.sources = map[string]string{}
	}
	x.sources[s] = s
	return s
}
