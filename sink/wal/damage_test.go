package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
)

// damaged makes a log of five segments of ten records and lets fn spoil it.
func damaged(t *testing.T, fn func(t *testing.T, l *Log)) string {
	t.Helper()
	dir := t.TempDir()
	r := open(t, dir, Options{Consumers: []string{"c"}})
	for i := range 5 {
		var p []string
		for j := range 10 {
			p = append(p, fmt.Sprintf("%d-%d-%s", i, j, strings.Repeat("x", 1000)))
		}
		r.put("s", p...)
	}
	r.stop()
	<-r.end
	fn(t, r.Log)
	r.stop = nil
	r.Log.Close()
	return dir
}

// rewrite replaces the value of the segment at seq by what fn makes of it.
func rewrite(seq mqttetl.Seq, fn func(p []byte) []byte) func(*testing.T, *Log) {
	return func(t *testing.T, l *Log) {
		if err := l.env.Update(func(txn *lmdb.Txn) error {
			p, err := txn.Get(l.dbs.segments, segmentKey(seq))
			if err != nil {
				return err
			}
			if p = fn(p); p == nil {
				return txn.Del(l.dbs.segments, segmentKey(seq), nil)
			}
			return txn.Put(l.dbs.segments, segmentKey(seq), p, 0)
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDamage(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(p []byte) []byte {
			if at < 0 {
				at += len(p)
			}
			p[at] ^= 0x10
			return p
		}
	}
	for _, c := range []struct {
		name   string
		at     mqttetl.Seq
		spoil  func([]byte) []byte
		says   string
		intact int // records that are served before the damage
	}{
		{"magic", 21, flip(0), "starts with", 20},
		{"checksum", 21, flip(5), "checksum", 20},
		{"first seq", 21, flip(9), "checksum", 20},
		{"count", 21, flip(16), "checksum", 20},
		{"payload", 31, flip(-1), "checksum", 30},
		{"cut", 31, func(p []byte) []byte { return p[:len(p)/2] }, "checksum", 30},
		{"cut to nothing", 31, func(p []byte) []byte { return p[:5] }, "shorter than its header", 30},
		{"zeroed", 11, func(p []byte) []byte { return make([]byte, len(p)) }, "starts with", 10},
		{"missing", 21, func([]byte) []byte { return nil }, "records 21 to 30 are missing", 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := damaged(t, rewrite(c.at, c.spoil))
			rep, err := Verify(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(rep.Problems) != 1 || rep.Problems[0].Seq != c.at || !strings.Contains(rep.Problems[0].Text, c.says) {
				t.Errorf("Verify: %+v; want one at %d that says %q", rep.Problems, c.at, c.says)
			}
			if rep.Last != 50 || rep.Records != 40 {
				t.Errorf("Verify: %d records up to %d, want 40 up to 50", rep.Records, rep.Last)
			}
			r := open(t, dir, Options{Consumers: []string{"c"}})
			consumer := r.Consumer("c")
			if got := read(t, consumer, c.intact); !strings.HasPrefix(got[0], "1 s t/0-0") {
				t.Errorf("first record %.20q", got[0])
			}
			if _, err := consumer.Next(context.Background(), 1); !errors.Is(err, mqttetl.ErrDamaged) {
				t.Errorf("reading the damage: %v", err)
			}
		})
	}
}

// TestDamagedDatabases: a log without its databases, such as a crash of a build
// that does not sync leaves, is damaged for whoever opens it.
func TestDamagedDatabases(t *testing.T) {
	for _, name := range []string{"segments", "cursors", "meta"} {
		dir := damaged(t, func(t *testing.T, l *Log) {
			if err := l.env.Update(func(txn *lmdb.Txn) error { return txn.Drop(*l.dbs.names()[name], true) }); err != nil {
				t.Fatal(err)
			}
		})
		if _, err := Open(dir, Options{}); !errors.Is(err, mqttetl.ErrDamaged) {
			t.Errorf("without %s: Open: %v", name, err)
		}
		if _, err := Verify(dir, nil); !errors.Is(err, mqttetl.ErrDamaged) {
			t.Errorf("without %s: Verify: %v", name, err)
		}
		if _, err := Inspect(dir); !errors.Is(err, mqttetl.ErrDamaged) {
			t.Errorf("without %s: Inspect: %v", name, err)
		}
	}
}

func TestDamagedEnd(t *testing.T) {
	dir := damaged(t, rewrite(41, func(p []byte) []byte { p[100]++; return p }))
	if _, err := Open(dir, Options{}); !errors.Is(err, mqttetl.ErrDamaged) || !strings.Contains(err.Error(), "record 41") {
		t.Errorf("Open: %v", err)
	}
	if rep, err := Verify(dir, nil); err != nil || len(rep.Problems) != 1 {
		t.Errorf("Verify: %+v, %v", rep, err)
	}
	if _, err := Inspect(dir); !errors.Is(err, mqttetl.ErrDamaged) {
		t.Errorf("Inspect: %v", err)
	}
}

func TestDamagedFile(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(path string) error
		want  error
	}{
		{"truncated", func(p string) error { return os.Truncate(p, 10*4096) }, mqttetl.ErrDamaged},
		{"truncated to the meta pages", func(p string) error { return os.Truncate(p, 2*4096) }, mqttetl.ErrDamaged},
		{"empty", func(p string) error { return os.Truncate(p, 0) }, mqttetl.ErrDamaged},
		{"another file", func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("no log "), 9999), 0o600) }, mqttetl.ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := damaged(t, func(*testing.T, *Log) {})
			if err := c.spoil(filepath.Join(dir, dataFile)); err != nil {
				t.Fatal(err)
			}
			if l, err := Open(dir, Options{}); !errors.Is(err, c.want) {
				t.Errorf("Open: %v", err)
				l.Close()
			}
			if _, err := Verify(dir, nil); !errors.Is(err, c.want) {
				t.Errorf("Verify: %v", err)
			}
			if _, err := Inspect(dir); !errors.Is(err, c.want) {
				t.Errorf("Inspect: %v", err)
			}
		})
	}
}

func TestVerifyBesideWriter(t *testing.T) {
	const env = "MQTTETL_TEST_VERIFY"
	if dir := os.Getenv(env); dir != "" {
		for range 100 {
			if rep, err := Verify(dir, nil); err != nil || len(rep.Problems) > 0 {
				t.Fatalf("%+v, %v", rep, err)
			}
		}
		return
	}
	dir := t.TempDir()
	r := open(t, dir, Options{Consumers: []string{"c"}})
	r.Consumer("c").Seek(0)
	stop, stopped := make(chan bool), make(chan mqttetl.Seq)
	go func() {
		last := mqttetl.Seq(0)
		for {
			select {
			case <-stop:
				stopped <- last
				return
			default:
			}
			b, done := batch("s", "a", "b", strings.Repeat("c", 5000))
			r.Append(b)
			o := <-done
			last = o.first + 2
			r.Consumer("c").Commit(o.first / 2)
		}
	}()
	if _, err := Verify(dir, nil); !errors.Is(err, mqttetl.ErrLocked) {
		t.Errorf("Verify in the process that writes: %v", err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestVerifyBesideWriter$")
	cmd.Env = append(os.Environ(), env+"="+dir)
	out, err := cmd.CombinedOutput()
	stop <- true
	last := <-stopped
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.close()
	rep, err := Verify(dir, nil)
	if err != nil || rep.Last != last || rep.Records != int(rep.Last-rep.First)+1 || len(rep.Problems) > 0 {
		t.Errorf("%+v, %v; want records up to %d", rep, err, last)
	}
	if info, err := Inspect(dir); err != nil || info.Last != last || info.ID != r.ID() {
		t.Errorf("Inspect: %+v, %v", info, err)
	}
}

func TestVerifyForeignPosition(t *testing.T) {
	dir := damaged(t, func(t *testing.T, l *Log) {
		if err := l.env.Update(func(txn *lmdb.Txn) error {
			return txn.Put(l.dbs.cursors, []byte("c"), segmentKey(51), 0)
		}); err != nil {
			t.Fatal(err)
		}
	})
	if rep, err := Verify(dir, nil); err != nil || len(rep.Problems) != 1 || !strings.Contains(rep.Problems[0].Text, `"c" is at record 51`) {
		t.Errorf("%+v, %v", rep, err)
	}
}

func TestVerifyNothing(t *testing.T) {
	dir := t.TempDir()
	if _, err := Verify(dir, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no log: %v", err)
	}
	open(t, dir, Options{}).close()
	if rep, err := Verify(dir, nil); err != nil || rep.Records != 0 || len(rep.Problems) > 0 || rep.ID == "" {
		t.Errorf("empty log: %+v, %v", rep, err)
	}
}

// TestInterruptedCreation: what a crash can leave while a log is made is not a
// log, and the next Open makes one.
func TestInterruptedCreation(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, newDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, newDir, dataFile), []byte("half a page"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, Options{})
	if got := r.put("s", "x"); got != 1 {
		t.Errorf("first record %d", got)
	}
}

func FuzzSegment(f *testing.F) {
	b, _ := batch("source", "a", "", "ccc")
	var r run
	r.add(b)
	p := make([]byte, r.length())
	r.encode(p, 7)
	f.Add(uint64(7), p)
	f.Add(uint64(1), []byte(segmentMagic))
	f.Fuzz(func(t *testing.T, key uint64, p []byte) {
		s, err := parseSegment(mqttetl.Seq(key), p)
		if err != nil {
			if !errors.Is(err, mqttetl.ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		recs, err := mqttetl.DecodeRecords(nil, s.records, s.count, s.first, string(s.source))
		if err == nil && (len(recs) != s.count || recs[0].Seq != s.first || recs[len(recs)-1].Seq != s.last()) {
			t.Fatalf("%d records from %d, segment of %d", len(recs), recs[0].Seq, s.count)
		}
	})
}
