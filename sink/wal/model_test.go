package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl"
)

// model is what a log with two consumers should hold.
type model struct {
	records []string       // from Seq 1 on
	sought  [2]bool        // in this process
	pos     [2]mqttetl.Seq // as last said by the consumer
	stored  [2]mqttetl.Seq // as last committed: what a crash leaves
	read    [2]mqttetl.Seq
	most    [2]mqttetl.Seq // what each can have had in this process
	ids     map[uint16]bool
	dead    []mqttetl.DeadLetter
	high    mqttetl.Seq // the highest position that both have ever been past
}

// machine drives a log and its model together.
type machine struct {
	model
	dir  string
	log  *Log
	fail bool // the next transaction fails
	n    int
}

var modelConsumers = []string{"a", "b"}

func (m *machine) open(t *rapid.T) {
	l, err := Open(m.dir, Options{Consumers: modelConsumers, MaxSize: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	l.update = func(op lmdb.TxnOp) error {
		return l.env.Update(func(txn *lmdb.Txn) error {
			if err := op(txn); err != nil {
				return err
			}
			if m.fail {
				return &lmdb.OpError{Op: "mdb_txn_commit", Errno: unix.ENOSPC}
			}
			return nil
		})
	}
	m.log = l
	m.sought = [2]bool{}
	for i, name := range modelConsumers {
		m.pos[i] = l.Consumer(name).Stored()
		m.read[i] = m.pos[i]
		m.most[i] = mqttetl.Seq(len(m.records))
		// A crash may have stored any position said since the last commit that is known of.
		if m.pos[i] < m.stored[i] {
			t.Fatalf("consumer %s stands at %d after reopening, was stored at %d", name, m.pos[i], m.stored[i])
		}
	}
}

// commit makes one transaction of the batches, as Run would.
func (m *machine) commit(t *rapid.T, bs ...*mqttetl.Batch) error {
	err := m.log.attempt(m.log.transaction(bs))
	if err == nil {
		for i, c := range m.log.consumers {
			m.stored[i] = mqttetl.Seq(c.stored.Load())
		}
	}
	return err
}

func (m *machine) Append(t *rapid.T) {
	var bs []*mqttetl.Batch
	var firsts []mqttetl.Seq
	var added []string
	for range rapid.IntRange(1, 4).Draw(t, "batches") {
		b := &mqttetl.Batch{Source: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "source")}
		b.Done = func(first mqttetl.Seq, err error) {
			if err != nil {
				t.Fatal(err)
			}
			firsts = append(firsts, first)
		}
		for range rapid.IntRange(1, 20).Draw(t, "messages") {
			m.n++
			payload := make([]byte, rapid.SampledFrom([]int{0, 3, 3000}).Draw(t, "size"))
			topic := fmt.Sprint("t", m.n)
			b.Append(int64(m.n), mqttetl.Message{Topic: []byte(topic), Payload: payload})
			added = append(added, fmt.Sprintf("%s %s %d", b.Source, topic, len(payload)))
		}
		bs = append(bs, b)
	}
	m.fail = rapid.IntRange(0, 5).Draw(t, "fails") == 0
	err := m.commit(t, bs...)
	if m.fail {
		m.fail = false
		if err == nil || len(firsts) > 0 {
			t.Fatalf("a failed commit: %v, %d batches done", err, len(firsts))
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	want := mqttetl.Seq(len(m.records) + 1)
	for i, b := range bs {
		if firsts[i] != want {
			t.Fatalf("batch %d begins at %d, want %d", i, firsts[i], want)
		}
		want += mqttetl.Seq(b.Len())
	}
	m.records = append(m.records, added...)
}

func (m *machine) Seek(t *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(t, "consumer")
	after := mqttetl.Seq(rapid.IntRange(0, len(m.records)).Draw(t, "after"))
	next, err := m.log.Consumer(modelConsumers[i]).Seek(after)
	if foreign := after > m.most[i]; foreign != errors.Is(err, mqttetl.ErrForeign) {
		t.Fatalf("Seek(%d) of a consumer that can have had %d: %v", after, m.most[i], err)
	} else if foreign {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := max(after+1, m.log.Stats().First); next != want {
		t.Fatalf("Seek(%d) = %d, want %d", after, next, want)
	}
	m.pos[i], m.read[i], m.sought[i] = after, next-1, true
	m.stored[i] = min(m.stored[i], after)
}

func (m *machine) Read(t *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(t, "consumer")
	if int(m.read[i]) == len(m.records) || m.read[i]+1 < m.log.Stats().First {
		return
	}
	recs, err := m.log.Consumer(modelConsumers[i]).Next(context.Background(), rapid.IntRange(1, 30).Draw(t, "max"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		m.read[i]++
		m.most[i] = max(m.most[i], m.read[i])
		got := fmt.Sprintf("%d %s %s %d", r.Seq, r.Source, r.Topic, len(r.Payload))
		if want := fmt.Sprintf("%d %s", m.read[i], m.records[m.read[i]-1]); got != want {
			t.Fatalf("read %q, want %q", got, want)
		}
	}
}

func (m *machine) Commit(t *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(t, "consumer")
	upTo := mqttetl.Seq(rapid.IntRange(0, int(m.read[i])).Draw(t, "up to"))
	m.log.Consumer(modelConsumers[i]).Commit(upTo)
	m.pos[i] = max(m.pos[i], upTo)
}

func (m *machine) DeadLetter(t *rapid.T) {
	d := mqttetl.DeadLetter{Seq: mqttetl.Seq(len(m.dead) + 1), Stage: "s", Reason: "r"}
	m.log.Consumer("a").DeadLetter(d)
	if err := m.commit(t); err != nil {
		t.Fatal(err)
	}
	m.dead = append(m.dead, d)
}

func (m *machine) PacketID(t *rapid.T) {
	id := uint16(rapid.IntRange(1, 5).Draw(t, "id"))
	b := &mqttetl.Batch{Session: "s", Done: func(mqttetl.Seq, error) {}}
	switch op := mqttetl.IDOp(rapid.IntRange(0, 2).Draw(t, "op")); op {
	case mqttetl.IDAdded:
		b.IDs, m.ids[id] = append(b.IDs, mqttetl.IDChange{ID: id}), true
	case mqttetl.IDRemoved:
		b.IDs = append(b.IDs, mqttetl.IDChange{ID: id, Op: op})
		delete(m.ids, id)
	case mqttetl.IDsCleared:
		b.IDs = append(b.IDs, mqttetl.IDChange{Op: op})
		clear(m.ids)
	}
	if err := m.commit(t, b); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) Housekeeping(t *rapid.T) {
	if err := m.commit(t); err != nil {
		t.Fatal(err)
	}
	m.stored = m.pos
}

// Crash leaves what the last transaction left and opens the log again.
func (m *machine) Crash(t *rapid.T) {
	if err := m.log.Close(); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

// Check is run after every operation.
func (m *machine) Check(t *rapid.T) {
	s := m.log.Stats()
	if int(s.Last) != len(m.records) {
		t.Fatalf("last record %d, want %d", s.Last, len(m.records))
	}
	if len(m.records) > 0 && (s.First < 1 || s.First > s.Last) {
		t.Fatalf("first record %d, last %d", s.First, s.Last)
	}
	for i := range m.pos {
		if s.First > 1 && s.First > m.least()+1 {
			t.Fatalf("trimmed to %d, consumer %d stands at %d", s.First, i, m.pos[i])
		}
	}
	ids, err := m.log.PacketIDs("s")
	if err != nil || len(ids) != len(m.ids) {
		t.Fatalf("packet ids %v, %v; want %v", ids, err, m.ids)
	}
	for _, id := range ids {
		if !m.ids[id] {
			t.Fatalf("packet ids %v, want %v", ids, m.ids)
		}
	}
	ds, err := m.log.DeadLetters(1000)
	if err != nil || len(ds) != len(m.dead) {
		t.Fatalf("dead letters %v, %v; want %v", ds, err, m.dead)
	}
}

// least is the highest position that both consumers have ever been durably
// past, which bounds what may be gone.
func (m *machine) least() mqttetl.Seq {
	m.high = max(m.high, min(m.pos[0], m.pos[1]))
	return m.high
}

// TestModel runs random operations against the log and its model. A failure
// prints the seed and the operations that lead to it.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "mqttetl-model-")
		if err != nil {
			t.Fatal(err)
		}
		m := &machine{dir: dir, model: model{ids: map[uint16]bool{}}}
		m.open(t)
		defer func() {
			m.log.Close()
			os.RemoveAll(dir)
		}()
		t.Repeat(map[string]func(*rapid.T){
			"": m.Check, "append": m.Append, "seek": m.Seek, "read": m.Read, "commit": m.Commit, "dead letter": m.DeadLetter,
			"packet id": m.PacketID, "housekeeping": m.Housekeeping, "crash": m.Crash,
		})
	})
}
