package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/mqttetl/mqttetl"
)

// A segment is one LMDB value: records of one source, numbered without holes.
// Its key is the first record's Seq, 8 bytes big endian. All integers of the
// header are little endian.
//
//	 0        4        8               16       20     22     24
//	+--------+--------+---------------+--------+------+------+--------+---------+
//	| "MQS1" | CRC32C |   first Seq   | count  | name | zero | source | records |
//	|        |        |               |        | len  |      | name   |         |
//	+--------+--------+---------------+--------+------+------+--------+---------+
//
// The CRC32C (Castagnoli) covers everything behind it. The records are in the
// encoding of mqttetl.Batch.
const (
	segmentMagic  = "MQS1"
	segmentHeader = 24
	segmentSize   = 1 << 20 // a run of batches is split into segments of about this size
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// run is consecutive batches of one source that become one segment.
type run struct {
	batches []*mqttetl.Batch
	records int
	size    int // upper bound of the segment's length
}

// fits says whether b may join the run.
func (r *run) fits(b *mqttetl.Batch) bool {
	return len(r.batches) > 0 && r.batches[0].Source == b.Source && r.size+b.Size() <= segmentSize
}

// add puts b at the end of the run.
func (r *run) add(b *mqttetl.Batch) {
	if len(r.batches) == 0 {
		r.size = segmentHeader + len(b.Source)
	}
	r.batches = append(r.batches, b)
	r.records += b.Len()
	r.size += b.Size()
}

// length is the exact length of the encoded segment.
func (r *run) length() int {
	n := segmentHeader + len(r.batches[0].Source)
	var scratch [binary.MaxVarintLen64]byte
	for i, b := range r.batches {
		n += b.Size()
		if i > 0 {
			t, k := binary.Varint(b.Bytes())
			n += binary.PutVarint(scratch[:], t-r.batches[i-1].Last()) - k
		}
	}
	return n
}

// encode writes the segment into dst, which has its exact length.
func (r *run) encode(dst []byte, first mqttetl.Seq) {
	source := r.batches[0].Source
	copy(dst, segmentMagic)
	binary.LittleEndian.PutUint64(dst[8:], uint64(first))
	binary.LittleEndian.PutUint32(dst[16:], uint32(r.records))
	binary.LittleEndian.PutUint16(dst[20:], uint16(len(source)))
	binary.LittleEndian.PutUint16(dst[22:], 0)
	at := segmentHeader + copy(dst[segmentHeader:], source)
	for i, b := range r.batches {
		p := b.Bytes()
		if i > 0 { // the first time of a batch counts from 0, in a segment from the record before it
			t, k := binary.Varint(p)
			at += binary.PutVarint(dst[at:], t-r.batches[i-1].Last())
			p = p[k:]
		}
		at += copy(dst[at:], p)
	}
	binary.LittleEndian.PutUint32(dst[4:], crc32.Checksum(dst[8:], castagnoli))
}

// segment is a checked segment; records points into the bytes it was parsed from.
type segment struct {
	first   mqttetl.Seq
	count   int
	source  []byte
	records []byte
}

// last is the Seq of the segment's last record.
func (s segment) last() mqttetl.Seq { return s.first + mqttetl.Seq(s.count) - 1 }

// parseSegment checks the bytes of the segment whose key is key. An error wraps
// mqttetl.ErrDamaged and names the key.
func parseSegment(key mqttetl.Seq, p []byte) (segment, error) {
	bad := func(what string, args ...any) (segment, error) {
		return segment{}, fmt.Errorf("segment at record %d (%d bytes): %s: %w", key, len(p), fmt.Sprintf(what, args...), mqttetl.ErrDamaged)
	}
	if len(p) < segmentHeader {
		return bad("shorter than its header")
	}
	if string(p[:4]) != segmentMagic {
		return bad("starts with %q, not %q", p[:4], segmentMagic)
	}
	if want, got := binary.LittleEndian.Uint32(p[4:]), crc32.Checksum(p[8:], castagnoli); want != got {
		return bad("checksum %08x, stored %08x", got, want)
	}
	s := segment{
		first: mqttetl.Seq(binary.LittleEndian.Uint64(p[8:])),
		count: int(binary.LittleEndian.Uint32(p[16:])),
	}
	name := int(binary.LittleEndian.Uint16(p[20:]))
	if s.first != key {
		return bad("holds records from %d on", s.first)
	}
	if len(p) < segmentHeader+name || s.count == 0 && len(p) > segmentHeader {
		return bad("%d records, source name of %d bytes", s.count, name)
	}
	s.source, s.records = p[segmentHeader:segmentHeader+name], p[segmentHeader+name:]
	return s, nil
}

// mark is an empty segment at the record that comes next: what stands in a log
// that has been emptied, so that its numbers go on.
func mark(next mqttetl.Seq) []byte {
	p := append(make([]byte, 0, segmentHeader), segmentMagic...)[:segmentHeader]
	binary.LittleEndian.PutUint64(p[8:], uint64(next))
	binary.LittleEndian.PutUint32(p[4:], crc32.Checksum(p[8:], castagnoli))
	return p
}

// segmentKey encodes the key of the segment whose first record is seq.
func segmentKey(seq mqttetl.Seq) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, 8), uint64(seq))
}

// keySeq decodes a segment's key; a key of another length is damage.
func keySeq(key []byte) (mqttetl.Seq, error) {
	if len(key) != 8 {
		return 0, fmt.Errorf("segment key of %d bytes: %w", len(key), mqttetl.ErrDamaged)
	}
	return mqttetl.Seq(binary.BigEndian.Uint64(key)), nil
}
