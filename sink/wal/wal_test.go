package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test; none of them waits that long when it passes.
const patience = 20 * time.Second

// running is an open log whose commit loop runs.
type running struct {
	*Log
	t    testing.TB
	stop context.CancelFunc
	end  chan error
}

func open(t testing.TB, dir string, o Options) *running {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, l)
}

func start(t testing.TB, l *Log) *running {
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Log: l, t: t, stop: stop, end: make(chan error, 1)}
	go func() { r.end <- l.Run(ctx) }()
	t.Cleanup(func() {
		if r.stop != nil {
			r.close()
		}
	})
	return r
}

// close ends the commit loop and closes the log.
func (r *running) close() error {
	r.t.Helper()
	r.stop()
	r.stop = nil
	err := <-r.end
	if e := r.Log.Close(); e != nil {
		r.t.Error(e)
	}
	return err
}

type outcome struct {
	first mqttetl.Seq
	err   error
}

// batch makes a batch of messages with the given payloads.
func batch(source string, payloads ...string) (*mqttetl.Batch, chan outcome) {
	b := &mqttetl.Batch{Source: source}
	done := make(chan outcome, 1)
	b.Done = func(first mqttetl.Seq, err error) { done <- outcome{first, err} }
	for i, p := range payloads {
		b.Append(int64(1000+i), mqttetl.Message{Topic: []byte("t/" + p), Payload: []byte(p), Flags: 1})
	}
	return b, done
}

// put appends a batch and waits until it is committed.
func (r *running) put(source string, payloads ...string) mqttetl.Seq {
	r.t.Helper()
	b, done := batch(source, payloads...)
	r.Append(b)
	return r.await(done)
}

func (r *running) await(done chan outcome) mqttetl.Seq {
	r.t.Helper()
	select {
	case o := <-done:
		if o.err != nil {
			r.t.Fatal(o.err)
		}
		return o.first
	case <-time.After(patience):
		r.t.Fatal("batch is not committed")
		return 0
	}
}

// read returns the next n records of a consumer as "seq source topic payload".
func read(t testing.TB, c *Consumer, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out []string
	for len(out) < n {
		recs, err := c.Next(ctx, n-len(out))
		if err != nil {
			t.Fatalf("after %d of %d records: %v", len(out), n, err)
		}
		for _, r := range recs {
			out = append(out, fmt.Sprintf("%d %s %s %s", r.Seq, r.Source, r.Topic, r.Payload))
		}
	}
	return out
}

// until waits for a condition on the log, trying again at each of its commits.
func (r *running) until(what string, ok func(Stats) bool) {
	r.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok(r.Stats()) {
		select {
		case <-deadline:
			r.t.Fatalf("%s: %+v", what, r.Stats())
		case <-tick.C:
		}
	}
}

func TestAppendReadReopen(t *testing.T) {
	dir := t.TempDir()
	opts := Options{Consumers: []string{"c"}}
	var want []string
	id := ""
	for round := range 4 {
		r := open(t, dir, opts)
		if id == "" {
			id = r.ID()
		}
		if r.ID() != id || len(id) != 16 {
			t.Fatalf("log id %q, was %q", r.ID(), id)
		}
		for i := range 5 {
			source := fmt.Sprintf("s%d", i%2)
			p := fmt.Sprintf("r%d-%d", round, i)
			if got, want := r.put(source, p, p+"x"), mqttetl.Seq(len(want)+1); got != want {
				t.Fatalf("first seq %d, want %d", got, want)
			}
			for _, p := range []string{p, p + "x"} {
				want = append(want, fmt.Sprintf("%d %s t/%s %s", len(want)+1, source, p, p))
			}
		}
		c := r.Consumer("c")
		if _, err := c.Seek(0); err != nil {
			t.Fatal(err)
		}
		if got := read(t, c, len(want)); !slices.Equal(got, want) {
			t.Fatalf("round %d:\n got %q\nwant %q", round, got, want)
		}
		if s := r.Stats(); s.First != 1 || s.Last != mqttetl.Seq(len(want)) || s.Bytes == 0 {
			t.Fatalf("stats %+v", s)
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGroupCommit holds the first transaction and hands over more batches
// meanwhile: they become one transaction, keep their order, and consecutive
// batches of one source one segment.
func TestGroupCommit(t *testing.T) {
	l, err := Open(t.TempDir(), Options{Consumers: []string{"c"}})
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan bool), make(chan bool)
	commits := 0
	l.update = func(op lmdb.TxnOp) error {
		if commits++; commits == 1 {
			entered <- true
			<-release
		}
		return l.env.Update(op)
	}
	r := start(t, l)
	b0, d0 := batch("a", "0")
	r.Append(b0)
	<-entered
	var dones []chan outcome
	for i, source := range []string{"a", "a", "b", "a"} {
		b, d := batch(source, fmt.Sprint(i, "x"), fmt.Sprint(i, "y"))
		r.Append(b)
		dones = append(dones, d)
	}
	release <- true
	if got := r.await(d0); got != 1 {
		t.Fatalf("first batch at %d", got)
	}
	for i, d := range dones {
		if got, want := r.await(d), mqttetl.Seq(2+2*i); got != want {
			t.Errorf("batch %d at %d, want %d", i, got, want)
		}
	}
	if commits != 2 {
		t.Errorf("%d transactions, want 2", commits)
	}
	want := []string{"1 a t/0 0", "2 a t/0x 0x", "3 a t/0y 0y", "4 a t/1x 1x", "5 a t/1y 1y", "6 b t/2x 2x", "7 b t/2y 2y", "8 a t/3x 3x", "9 a t/3y 3y"}
	c := r.Consumer("c")
	if got := read(t, c, 9); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	var segments int
	if err := l.env.View(func(txn *lmdb.Txn) (err error) {
		segments, err = countEntries(txn, l.dbs.segments)
		return err
	}); err != nil || segments != 4 {
		t.Errorf("%d segments, %v; want 4", segments, err)
	}
}

// TestFailedCommit: a commit that fails for another reason than room
// acknowledges nothing and ends the log.
func TestFailedCommit(t *testing.T) {
	l, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	broken := false
	l.update = func(op lmdb.TxnOp) error {
		if !broken {
			return l.env.Update(op)
		}
		if err := l.env.Update(func(txn *lmdb.Txn) error {
			if err := op(txn); err != nil {
				return err
			}
			return unix.EIO
		}); err == nil {
			t.Error("transaction was committed")
		}
		return &lmdb.OpError{Op: "mdb_txn_commit", Errno: unix.EIO}
	}
	r := start(t, l)
	r.put("s", "one")
	broken = true
	b, done := batch("s", "two")
	r.Append(b)
	o := <-done
	if o.err == nil || !errors.Is(errno(o.err), unix.EIO) {
		t.Fatalf("batch ended with %v", o.err)
	}
	late, lateDone := batch("s", "three")
	if err := r.close(); err == nil {
		t.Error("Run returned nil")
	}
	r.Append(late)
	if o := <-lateDone; !errors.Is(o.err, mqttetl.ErrClosed) {
		t.Errorf("batch behind the end: %v", o.err)
	}
}

func TestLocked(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, mqttetl.ErrLocked) || mqttetl.Hint(err) == "" {
		t.Errorf("second Open: %v", err)
	}
	r.put("s", "still fine")
}

func TestSeek(t *testing.T) {
	r := open(t, t.TempDir(), Options{Consumers: []string{"c", "d"}})
	for i := range 10 {
		r.put("s", fmt.Sprint(i), fmt.Sprint(i, "b"))
	}
	c := r.Consumer("c")
	read(t, c, 20)
	for _, after := range []mqttetl.Seq{0, 7, 8, 19, 3} {
		next, err := c.Seek(after)
		if err != nil || next != after+1 {
			t.Fatalf("Seek(%d) = %d, %v", after, next, err)
		}
		if got := read(t, c, 1)[0]; got[:len(fmt.Sprint(next))] != fmt.Sprint(next) {
			t.Errorf("Seek(%d) then %q", after, got)
		}
		if c.Stored() != after {
			t.Errorf("stored %d, want %d", c.Stored(), after)
		}
	}
	if _, err := c.Seek(21); !errors.Is(err, mqttetl.ErrForeign) {
		t.Errorf("Seek behind the end: %v", err)
	}
	if _, err := c.Seek(20); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Next(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Next at the end: %v", err)
	}
}

// TestNextWakes: a consumer that waits is woken by a commit and by the end of Run.
func TestNextWakes(t *testing.T) {
	l, err := Open(t.TempDir(), Options{Consumers: []string{"c"}})
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, l)
	got := make(chan string)
	go func() {
		for {
			recs, err := l.Consumer("c").Next(context.Background(), 10)
			if err != nil {
				got <- err.Error()
				return
			}
			for _, x := range recs {
				got <- string(x.Payload)
			}
		}
	}()
	for i := range 5 {
		p := fmt.Sprint("m", i)
		r.put("s", p)
		if g := <-got; g != p {
			t.Fatalf("got %q, want %q", g, p)
		}
	}
	r.stop()
	if g := <-got; g != "read log: "+mqttetl.ErrClosed.Error() {
		t.Errorf("after the end: %q", g)
	}
}

func TestTrim(t *testing.T) {
	dir := t.TempDir()
	opts := Options{Consumers: []string{"fast", "slow"}}
	r := open(t, dir, opts)
	fast, slow := r.Consumer("fast"), r.Consumer("slow")
	const n = 300
	for i := range n {
		r.put("s", fmt.Sprint(i))
	}
	if _, err := fast.Seek(0); err != nil {
		t.Fatal(err)
	}
	fast.Commit(n)
	r.put("s", "x")
	if s := r.Stats(); s.First != 1 {
		t.Fatalf("trimmed to %d before every consumer said where it stands", s.First)
	}
	if _, err := slow.Seek(0); err != nil {
		t.Fatal(err)
	}
	r.put("s", "x")
	if s := r.Stats(); s.First != 1 {
		t.Fatalf("trimmed to %d past the slow consumer", s.First)
	}
	slow.Commit(200)
	r.put("s", "x")
	if s := r.Stats(); s.First == 1 || s.First > 201 || s.First > 1+trimAtOnce+2 {
		t.Fatalf("one append trimmed to %d", s.First)
	}
	r.until("trims the rest by itself", func(s Stats) bool { return s.First == 201 })
	slow.Commit(n + 3)
	fast.Commit(n + 3)
	r.until("keeps the last segment", func(s Stats) bool { return s.First == n+3 && s.Last == n+3 })
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	r = open(t, dir, opts)
	if got := r.put("s", "y"); got != n+4 {
		t.Errorf("numbering goes on with %d, want %d", got, n+4)
	}
	if got := r.Consumer("slow").Stored(); got != n+3 {
		t.Errorf("stored position %d, want %d", got, n+3)
	}
	if next, err := r.Consumer("slow").Seek(5); err != nil || next != n+3 {
		t.Errorf("Seek to a trimmed record: next %d, %v", next, err)
	}
}

// TestAgain: what a consumer has had comes again as far as the log holds it, and nothing
// of an emptied log.
func TestAgain(t *testing.T) {
	dir, opts := t.TempDir(), Options{Consumers: []string{"c"}}
	r := open(t, dir, opts)
	c := r.Consumer("c")
	again := func(after mqttetl.Seq, want ...mqttetl.Seq) {
		t.Helper()
		recs, err := c.Again(after)
		var got []mqttetl.Seq
		for i := range recs {
			got = append(got, recs[i].Seq)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("again after %d: %v, %v; want %v", after, got, err, want)
		}
	}
	again(0)
	for range 4 {
		r.put("s", "x")
	}
	again(0, 1, 2, 3, 4)
	again(3, 4)
	again(4)
	if _, err := c.Seek(0); err != nil {
		t.Fatal(err)
	}
	read(t, c, 4)
	c.Commit(2)
	r.until("trims", func(s Stats) bool { return s.First == 3 })
	r.close()
	r = open(t, dir, opts)
	c = r.Consumer("c")
	again(0, 3, 4)
	again(2, 3, 4)
	again(3, 4)
	again(4)
	if _, err := c.Seek(4); err != nil {
		t.Fatal(err)
	}
	r.until("trims", func(s Stats) bool { return s.First == 4 })
	r.close()
	l, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	l.Consumer("c").Seek(4)
	if err := l.reclaim(&transaction{log: l, empty: true}); err != nil {
		t.Fatal(err)
	}
	l.Close()
	r = open(t, dir, opts)
	c = r.Consumer("c")
	again(0)
	again(4)
}

// TestConsumersChange: a consumer that is no longer configured holds nothing
// back and starts anew when it returns.
func TestConsumersChange(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, Options{Consumers: []string{"a", "b"}})
	r.put("s", "1", "2", "3")
	for name, upTo := range map[string]mqttetl.Seq{"a": 2, "b": 3} {
		r.Consumer(name).Seek(0)
		r.Consumer(name).Commit(upTo)
	}
	r.close()
	r = open(t, dir, Options{Consumers: []string{"b"}})
	if got := r.Consumer("b").Stored(); got != 3 {
		t.Errorf("b stands at %d, want 3", got)
	}
	r.close()
	r = open(t, dir, Options{Consumers: []string{"a", "b"}})
	if got := r.Consumer("a").Stored(); got != 0 {
		t.Errorf("a stands at %d, want 0", got)
	}
}

func TestMaxSize(t *testing.T) {
	const limit = 1 << 20
	r := open(t, t.TempDir(), Options{MaxSize: limit, Consumers: []string{"c"}})
	c := r.Consumer("c")
	if _, err := c.Seek(0); err != nil {
		t.Fatal(err)
	}
	payload := string(make([]byte, 64<<10))
	for r.Stats().Bytes < limit {
		r.put("s", payload)
	}
	b, waiting := batch("s", payload)
	r.Append(b)
	r.until("pauses", func(s Stats) bool { return s.Paused && s.PauseReason != "" })
	size := func() int64 { var st unix.Stat_t; unix.Stat(r.dir+"/data.mdb", &st); return st.Size }
	before := size()
	// The consumer takes one by one what the log holds, and so the appends go on.
	for range 200 {
		read(t, c, 1)
		c.Commit(c.read)
		r.await(waiting)
		b, waiting = batch("s", payload)
		r.Append(b)
	}
	read(t, c, 1)
	c.Commit(c.read)
	r.await(waiting)
	r.until("resumes", func(s Stats) bool { return !s.Paused })
	if after := size(); after > before+4<<20 {
		t.Errorf("the file grew from %d to %d bytes while the log was full", before, after)
	}
}

func TestPacketIDs(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, Options{})
	change := func(session string, ids ...mqttetl.IDChange) {
		b, done := batch("s", "m")
		b.Session, b.IDs = session, ids
		r.Append(b)
		r.await(done)
	}
	want := func(session string, ids ...uint16) {
		t.Helper()
		got, err := r.PacketIDs(session)
		if err != nil || !slices.Equal(got, ids) {
			t.Errorf("session %q: %v, %v; want %v", session, got, err, ids)
		}
	}
	add := func(id uint16) mqttetl.IDChange { return mqttetl.IDChange{ID: id} }
	change("one", add(1), add(0xffff), add(256))
	change("one\x00more", add(7))
	change("on", add(9))
	want("one", 1, 256, 0xffff)
	change("one", mqttetl.IDChange{ID: 256, Op: mqttetl.IDRemoved}, mqttetl.IDChange{ID: 3, Op: mqttetl.IDRemoved}, add(2))
	r.close()
	r = open(t, dir, Options{})
	want("one", 1, 2, 0xffff)
	change("one", mqttetl.IDChange{Op: mqttetl.IDsCleared}, add(5))
	want("one", 5)
	want("one\x00more", 7)
	want("on", 9)
}

func TestDeadLetters(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, Options{Consumers: []string{"c"}})
	r.put("s", "1", "2", "3")
	c := r.Consumer("c")
	c.Seek(0)
	ds := []mqttetl.DeadLetter{{Seq: 2, Stage: "forward", Reason: "too large", Time: 42}, {Seq: 3, Stage: "forward", Reason: "x", Time: -1}}
	for _, d := range ds {
		c.DeadLetter(d)
	}
	c.Commit(3)
	r.close()
	r = open(t, dir, Options{Consumers: []string{"c"}})
	got, err := r.DeadLetters(10)
	if err != nil || !slices.Equal(got, ds) || !r.HasDeadLetters() {
		t.Fatalf("got %v, %v; want %v", got, err, ds)
	}
	r.DropDeadLetters(ds[:1])
	r.put("s", "4")
	if got, _ := r.DeadLetters(10); !slices.Equal(got, ds[1:]) {
		t.Errorf("after a drop: %v", got)
	}
	r.DropDeadLetters(ds[1:])
	if r.HasDeadLetters() {
		t.Error("has dead letters that are dropped")
	}
}

func TestLag(t *testing.T) {
	r := open(t, t.TempDir(), Options{Consumers: []string{"c"}})
	c := r.Consumer("c")
	check := func(wantN uint64, wantAge bool) {
		t.Helper()
		n, age, err := c.Lag()
		if err != nil || n != wantN || age > 0 != wantAge {
			t.Errorf("lag %d, %v, %v; want %d, %v", n, age, err, wantN, wantAge)
		}
	}
	check(0, false)
	r.put("s", "1", "2")
	r.put("s", "3")
	check(3, true)
	c.Commit(1)
	check(2, true)
	c.Commit(3)
	check(0, false)
}

// TestOlderCopy: a consumer that was fed by a later state of the log than the
// one that was put back is refused, also when new records have taken the
// numbers of the lost ones before it comes.
func TestOlderCopy(t *testing.T) {
	r := open(t, t.TempDir(), Options{Consumers: []string{"c"}})
	for i := range 8 {
		r.put("s", fmt.Sprint("after the restore ", i))
	}
	c := r.Consumer("c")
	if _, err := c.Seek(5); !errors.Is(err, mqttetl.ErrForeign) {
		t.Errorf("a consumer that holds 5 records of another state: %v", err)
	}
	if _, err := c.Seek(0); err != nil {
		t.Fatal(err)
	}
	read(t, c, 5)
	if _, err := c.Seek(5); err != nil {
		t.Errorf("a consumer that has read 5 records: %v", err)
	}
}

// TestMostDead: where nobody takes dead letters, the newest are kept.
func TestMostDead(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		most  int
		adds  []mqttetl.Seq
		wants []mqttetl.Seq
	}{
		{0, []mqttetl.Seq{1, 2, 3}, []mqttetl.Seq{1, 2, 3}},
		{2, []mqttetl.Seq{4}, []mqttetl.Seq{3, 4}}, // an archive that is configured no longer
		{2, []mqttetl.Seq{5, 6, 7}, []mqttetl.Seq{6, 7}},
		{9, []mqttetl.Seq{8}, []mqttetl.Seq{6, 7, 8}},
	} {
		r := open(t, dir, Options{Consumers: []string{"c"}, MostDead: c.most})
		for _, seq := range c.adds {
			r.put("s", fmt.Sprint(seq))
			r.Consumer("c").DeadLetter(mqttetl.DeadLetter{Seq: seq, Stage: "forward", Reason: "too large"})
		}
		r.put("s", "more")
		ds, err := r.DeadLetters(10)
		var got []mqttetl.Seq
		for _, d := range ds {
			got = append(got, d.Seq)
		}
		if err != nil || !slices.Equal(got, c.wants) {
			t.Errorf("at most %d: dead letters of records %v, %v; want %v", c.most, got, err, c.wants)
		}
		r.close()
	}
}

// TestDeadLetterBeforeTrim: a dead letter and the position behind it that come
// while a transaction is being made are not trimmed by it.
func TestDeadLetterBeforeTrim(t *testing.T) {
	l, err := Open(t.TempDir(), Options{Consumers: []string{"c"}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := l.Consumer("c")
	c.Seek(0)
	for i := range 3 {
		b, _ := batch("s", fmt.Sprint(i))
		if err := l.attempt(l.transaction([]*mqttetl.Batch{b})); err != nil {
			t.Fatal(err)
		}
	}
	tr := &transaction{log: l}
	if err := l.env.Update(func(txn *lmdb.Txn) error {
		tr.first, tr.last, tr.trimmedTo = l.first, l.last, l.trimmedTo
		err := tr.moveCursors(txn)
		if err == nil {
			tr.dead, err = l.writeDead(txn)
		}
		c.DeadLetter(mqttetl.DeadLetter{Seq: 2, Stage: "forward", Reason: "too large"})
		c.Commit(2)
		return errors.Join(err, tr.trim(txn))
	}); err != nil {
		t.Fatal(err)
	}
	if ds, err := l.DeadLetters(10); tr.first > 2 && len(ds) == 0 || err != nil {
		t.Errorf("record 2 is trimmed and its dead letter is not stored: %v", err)
	}
}

// TestMessageOfMaxSize: one message as large as the log may be does not stop it
// for good once every consumer has it.
func TestMessageOfMaxSize(t *testing.T) {
	r := open(t, t.TempDir(), Options{MaxSize: 1 << 20, Consumers: []string{"c"}})
	c := r.Consumer("c")
	c.Seek(0)
	r.put("s", string(make([]byte, 2<<20)))
	b, done := batch("s", "next")
	r.Append(b)
	r.until("pauses", func(s Stats) bool { return s.Paused })
	c.Commit(1)
	if got := r.await(done); got != 2 {
		t.Errorf("goes on with record %d", got)
	}
	r.until("resumes", func(s Stats) bool { return !s.Paused })
}

// TestLagOfTrimmed: a position whose next record is gone has no age.
func TestLagOfTrimmed(t *testing.T) {
	r := open(t, t.TempDir(), Options{Consumers: []string{"c"}})
	c := r.Consumer("c")
	c.Seek(0)
	for i := range 3 {
		r.put("s", fmt.Sprint(i))
	}
	if err := r.env.Update(func(txn *lmdb.Txn) error { return txn.Drop(r.dbs.segments, false) }); err != nil {
		t.Fatal(err)
	}
	if n, age, err := c.Lag(); n != 3 || age != 0 || err != nil {
		t.Errorf("lag %d, %v, %v", n, age, err)
	}
}

// TestKilledReader: a process that is killed while it reads the log does not
// keep its pages from being used again.
func TestKilledReader(t *testing.T) {
	const env = "MQTTETL_TEST_READER"
	if dir := os.Getenv(env); dir != "" {
		r, err := openReader(dir)
		if err != nil {
			t.Fatal(err)
		}
		r.env.View(func(*lmdb.Txn) error {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			return nil
		})
	}
	r := open(t, t.TempDir(), Options{MaxSize: 1 << 20, Consumers: []string{"c"}})
	c := r.Consumer("c")
	c.Seek(0)
	payload := string(make([]byte, 64<<10))
	for r.Stats().Bytes < 1<<20 {
		r.put("s", payload)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledReader$")
	cmd.Env = append(os.Environ(), env+"="+r.dir)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("the reader was not killed:\n%s", out)
	}
	b, done := batch("s", payload)
	r.Append(b) // pauses, and looks for dead readers
	r.until("pauses", func(s Stats) bool { return s.Paused })
	r.until("forgets the reader", func(Stats) bool {
		slots := 0
		r.env.ReaderList(func(line string) error {
			if strings.Contains(line, fmt.Sprint(cmd.Process.Pid)) {
				slots++
			}
			return nil
		})
		return slots == 0
	})
	c.Commit(r.Stats().Last)
	r.await(done)
}

// TestCloseBesideReads: what asks a log that is being closed gets an error, not
// unmapped memory.
func TestCloseBesideReads(t *testing.T) {
	for range 20 {
		r := open(t, t.TempDir(), Options{Consumers: []string{"c", "d"}})
		r.put("s", string(make([]byte, 3<<20)))
		c := r.Consumer("c")
		ended := make(chan error)
		began := make(chan bool)
		go func() {
			close(began)
			for {
				if _, err := r.DeadLetters(1); err != nil {
					ended <- err
					return
				}
				if _, err := c.extract.behind(r.view, r.dbs.segments, 0); err != nil {
					ended <- err
					return
				}
			}
		}()
		<-began
		r.close()
		if err := <-ended; !errors.Is(err, mqttetl.ErrClosed) {
			t.Fatal(err)
		}
	}
}
