package archive

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

func TestOpenRefuses(t *testing.T) {
	cases := []struct {
		name  string
		setUp func(tb testing.TB, path string)
		want  error
	}{
		{"other log", func(tb testing.TB, path string) {
			a, err := Open(path, "ffffffffffffffff")
			must(tb, err)
			must(tb, a.Close())
		}, mqttetl.ErrForeign},
		{"other database", func(tb testing.TB, path string) { shell(tb, path, "create table t(x); insert into t values(1)") }, mqttetl.ErrForeign},
		{"newer version", func(tb testing.TB, path string) {
			must(tb, mustOpen(tb, path).Close())
			shell(tb, path, "pragma user_version=99; update meta set schema_version=99")
		}, store.ErrVersion},
		{"no database", func(tb testing.TB, path string) {
			must(tb, os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o640))
		}, mqttetl.ErrDamaged},
		{"broken page", func(tb testing.TB, path string) {
			must(tb, mustOpen(tb, path).Close())
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			must(tb, err)
			_, err = f.WriteAt([]byte(strings.Repeat("\xff", 4000)), 100)
			must(tb, errors.Join(err, f.Close()))
		}, mqttetl.ErrDamaged},
		{"table dropped", func(tb testing.TB, path string) {
			must(tb, mustOpen(tb, path).Close())
			shell(tb, path, "drop view msg; drop table messages")
		}, mqttetl.ErrDamaged},
		{"rows beyond the cursor", func(tb testing.TB, path string) {
			must(tb, mustOpen(tb, path).Close())
			shell(tb, path, "insert into messages values(5,0,1,1,0,'',null)")
		}, mqttetl.ErrDamaged},
		{"directory is a file", func(tb testing.TB, path string) {
			must(tb, os.Remove(filepath.Dir(path)))
			must(tb, os.WriteFile(filepath.Dir(path), nil, 0o640))
		}, mqttetl.ErrUnavailable},
		{"two directories missing", func(tb testing.TB, path string) {
			must(tb, os.Remove(filepath.Dir(path)))
			must(tb, os.Remove(filepath.Dir(filepath.Dir(path))))
		}, mqttetl.ErrUnavailable},
		{"path is a directory", func(tb testing.TB, path string) { must(tb, os.Mkdir(path, 0o750)) }, mqttetl.ErrUnavailable},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "x", "y")
			must(t, os.MkdirAll(dir, 0o750))
			path := filepath.Join(dir, "a.db")
			c.setUp(t, path)
			before, _ := os.ReadFile(path)
			a, err := Open(path, testLog)
			if !errors.Is(err, c.want) {
				t.Fatalf("Open: %v, %v; want %v", a, err, c.want)
			}
			if mqttetl.Hint(err) == "" {
				t.Errorf("no hint: %v", err)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("does not name the file: %v", err)
			}
			if after, _ := os.ReadFile(path); string(after) != string(before) {
				t.Error("the refused file was changed")
			}
		})
	}
}

// Rows that another program adds, or keeps from being added, while the archive
// is open: its own rows have the log's numbers or are not committed at all.
func TestRowsOfOthersAreRefused(t *testing.T) {
	for name, sql := range map[string]string{
		"behind the cursor":      "insert into messages values(9,0,1,1,0,'',null)",
		"the largest there is":   "insert into messages values(9223372036854775807,0,1,1,0,'',null)",
		"a trigger adds a row":   "create trigger x after insert on messages when new.seq=4 begin insert into messages values(99,0,1,1,0,'',null); end",
		"a trigger drops a row":  "create trigger x before insert on messages when new.payload='payload 4' begin select raise(ignore); end",
		"a trigger drops them":   "create trigger x before insert on messages begin select raise(ignore); end",
		"a trigger moves a row":  "create trigger x after insert on messages when new.seq=4 begin update messages set seq=40 where seq=4; end",
		"a trigger adds, behind": "create trigger x after insert on messages when new.seq=6 begin insert into messages values(99,0,1,1,0,'',null); end",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			a := mustOpen(t, path)
			must(t, a.Append(records(1, 2)))
			must(t, a.Commit())
			shell(t, path, sql)
			before := shell(t, path, "select * from messages")
			err := a.Append(records(3, 6))
			if errors.Is(err, store.ErrChanged) { // by a trigger: the batcher opens the archive again
				must(t, a.Close())
				a = mustOpen(t, path)
				err = a.Append(records(3, 6))
			}
			if err == nil {
				err = a.Append(records(7, 7))
			}
			want := mqttetl.ErrDamaged
			if strings.Contains(name, "drops") {
				want = mqttetl.ErrUnavailable // see TestTriggerKeepsRowsOut
			}
			if !errors.Is(err, want) || mqttetl.Hint(err) == "" {
				t.Errorf("Append: %v, want %v with a hint", err, want)
			}
			must(t, a.Commit()) // of nothing
			if got := shell(t, path, "select * from messages"); got != before || a.Cursor() != 2 {
				t.Errorf("cursor %d, rows\n%s\nbefore\n%s", a.Cursor(), got, before)
			}
		})
	}
}

// Whoever deletes old rows, or all, has the next ones under their numbers.
func TestRowsDeletedByOthers(t *testing.T) {
	for _, where := range []string{"seq=1", "seq=5", "1"} {
		path := filepath.Join(t.TempDir(), "a.db")
		a := mustOpen(t, path)
		must(t, a.Append(records(1, 5)))
		must(t, a.Commit())
		shell(t, path, "delete from messages where "+where)
		must(t, a.Append(records(6, 6)))
		must(t, a.Append(records(7, 9)))
		must(t, a.Commit())
		if got := shell(t, path, "select group_concat(seq||payload) from messages where seq>5"); got != "6payload 6,7payload 7,8payload 8,9payload 9" {
			t.Errorf("delete where %s: then %s", where, got)
		}
	}
}

// What a crash can leave of a file that was being created.
func TestOpenAcceptsWhatACrashLeft(t *testing.T) {
	for name, setUp := range map[string]func(path string) error{
		"empty file":       func(p string) error { return os.WriteFile(p, nil, 0o640) },
		"WAL, no schema":   func(p string) error { return exec.Command("sqlite3", p, "pragma journal_mode=wal").Run() },
		"stale WAL beside": func(p string) error { return os.WriteFile(p+walSuffix, []byte("stale"), 0o640) },
	} {
		path := filepath.Join(t.TempDir(), "a.db")
		must(t, setUp(path))
		if name != "stale WAL beside" {
			if id, cursor, err := ReadCursor(path); id != "" || cursor != 0 || err != nil {
				t.Errorf("%s: ReadCursor: %q %d %v", name, id, cursor, err)
			}
			if r, err := Verify(context.Background(), path, true); err != nil || r.Problems != nil {
				t.Errorf("%s: Verify: %+v %v", name, r, err)
			}
		}
		a := mustOpen(t, path)
		must(t, a.Append(records(1, 5)))
		must(t, a.Commit())
		must(t, a.Close())
		sound(t, path, 5)
	}
}

// TestCrashWhileTheModeIsSet: a file whose first pages are half written, beside
// the rollback journal that undoes them, is an archive that was never made.
func TestCrashWhileTheModeIsSet(t *testing.T) {
	from, path := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "telemetry.db")
	db, c, err := connect(from, "mode=rwc")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	defer c.Close()
	// More than the cache holds, so that the open transaction is in the file.
	if _, err := c.ExecContext(background, `PRAGMA page_size=8192; PRAGMA cache_size=2; BEGIN; CREATE TABLE t(x);
		INSERT INTO t SELECT randomblob(4000) FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]')`); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", journalSuffix} {
		p, err := os.ReadFile(from + suffix)
		if err != nil || len(p) < 100 {
			t.Fatalf("%d bytes of %q, %v", len(p), suffix, err)
		}
		if suffix == "" {
			clear(p[:4096])
		}
		if err := os.WriteFile(path+suffix, p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, wal := range []string{"", "the beginning of a frame"} {
		if err := os.WriteFile(path+walSuffix, []byte(wal), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, cursor, err := ReadCursor(path); id != "" || cursor != 0 || err != nil {
			t.Errorf("ReadCursor: %q, %d, %v", id, cursor, err)
		}
		if r, err := Verify(background, path, true); err != nil || len(r.Problems) > 0 || r.Cursor != 0 {
			t.Errorf("Verify: %+v, %v", r, err)
		}
	}
	a, err := Open(path, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil || a.Cursor() != 0 {
		t.Errorf("cursor %d, %v", a.Cursor(), err)
	}
}

// The archive was deleted after a kill, its write-ahead log was not.
func TestOpenIgnoresTheLogOfADeletedArchive(t *testing.T) {
	path, left := filepath.Join(t.TempDir(), "a.db"), filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 5)))
	must(t, a.Commit())
	for _, s := range []string{walSuffix, shmSuffix} {
		data, err := os.ReadFile(path + s)
		must(t, err)
		must(t, os.WriteFile(left+s, data, 0o640))
	}
	b := mustOpen(t, left)
	if b.Cursor() != 0 {
		t.Fatalf("cursor %d in a new archive", b.Cursor())
	}
	must(t, b.StartAt(6))
	must(t, b.Append(records(6, 9)))
	must(t, b.Commit())
	must(t, b.Close())
	sound(t, left, 9)
}

// lock has another process hold the write lock until release.
func lock(tb testing.TB, path string) (release func()) {
	tb.Helper()
	c := exec.Command("sqlite3", "-batch", path)
	in, err := c.StdinPipe()
	must(tb, err)
	out, err := c.StdoutPipe()
	must(tb, err)
	must(tb, c.Start())
	_, err = io.WriteString(in, ".timeout 5000\nBEGIN EXCLUSIVE;\nSELECT 'locked';\n")
	must(tb, err)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		tb.Fatalf("sqlite3 does not lock the file: %q %v", line, err)
	}
	return func() {
		must(tb, in.Close())
		must(tb, c.Wait())
	}
}

func TestLockedByAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 5)))
	must(t, a.Commit())
	release := lock(t, path)
	err := a.Append(records(6, 9))
	if !errors.Is(err, mqttetl.ErrUnavailable) || !strings.Contains(err.Error(), "SQLITE_BUSY") {
		t.Errorf("Append: %v, want ErrUnavailable with SQLite's words", err)
	}
	must(t, a.Rollback())
	release()
	must(t, a.Append(records(6, 9)))
	must(t, a.Commit())
	sound(t, path, 9)
}

// A full disk by SQLite's own limit, in every place where the file can grow.
func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 100)))
	must(t, a.Commit())
	_, err := a.conn.ExecContext(background, "PRAGMA max_page_count=20")
	must(t, err)
	cursor := a.Cursor()
	for err == nil {
		cursor = a.Cursor()
		if err = a.Append(records(cursor+1, cursor+100)); err == nil {
			err = a.Commit()
		}
	}
	if !errors.Is(err, mqttetl.ErrUnavailable) || !strings.Contains(mqttetl.Hint(err), "room") {
		t.Fatalf("full: %v, hint %q", err, mqttetl.Hint(err))
	}
	must(t, a.Rollback())
	if a.Cursor() != cursor {
		t.Fatalf("cursor moved from %d to %d by a failed transaction", cursor, a.Cursor())
	}
	_, err = a.conn.ExecContext(background, "PRAGMA max_page_count=100000")
	must(t, err)
	must(t, a.Append(records(cursor+1, cursor+100)))
	must(t, a.Commit())
	sound(t, path, cursor+100)
}

func TestReadingLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 50)))
	must(t, a.Commit())
	if _, cursor, err := ReadCursor(path); err != nil || cursor != 50 {
		t.Fatalf("ReadCursor while open: %d %v", cursor, err)
	}
	must(t, a.Append(records(51, 60))) // not committed: neither reader may see it
	sound(t, path, 50)
	must(t, a.Close())

	before := tree(t, dir)
	if _, cursor, err := ReadCursor(path); err != nil || cursor != 50 {
		t.Fatalf("ReadCursor: %d %v", cursor, err)
	}
	sound(t, path, 50)
	if after := tree(t, dir); !slices.Equal(after, before) {
		t.Errorf("reading changed\n%v into\n%v", before, after)
	}
	if _, _, err := ReadCursor(filepath.Join(dir, "none.db")); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, mqttetl.ErrUnavailable) {
		t.Errorf("ReadCursor of no file: %v", err)
	}
}

// tree lists names, sizes, times and contents.
func tree(tb testing.TB, dir string) (list []string) {
	entries, err := os.ReadDir(dir)
	must(tb, err)
	for _, e := range entries {
		info, err := e.Info()
		must(tb, err)
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(tb, err)
		list = append(list, fmt.Sprint(e.Name(), info.Size(), info.ModTime(), len(data), string(data[:min(100, len(data))])))
	}
	return list
}

// A copy taken while the archive was open is what a kill leaves behind.
func TestReadingAfterAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 50)))
	must(t, a.Commit())
	for _, suffixes := range [][]string{{"", walSuffix, shmSuffix}, {"", walSuffix}} {
		dir := t.TempDir()
		left := filepath.Join(dir, "a.db")
		for _, s := range suffixes {
			data, err := os.ReadFile(path + s)
			must(t, err)
			must(t, os.WriteFile(left+s, data, 0o640))
		}
		wal, err := os.ReadFile(left + walSuffix)
		must(t, err)
		if _, cursor, err := ReadCursor(left); err != nil || cursor != 50 {
			t.Fatalf("%q: ReadCursor: %d %v", suffixes, cursor, err)
		}
		sound(t, left, 50)
		if now, err := os.ReadFile(left + walSuffix); err != nil || string(now) != string(wal) {
			t.Errorf("%q: reading changed the write-ahead log: %v", suffixes, err)
		}
		b := mustOpen(t, left)
		must(t, b.Append(records(51, 60)))
		must(t, b.Commit())
		must(t, b.Close())
		sound(t, left, 60)
	}
}

func TestVerifyFinds(t *testing.T) {
	cases := []struct {
		name, damage string
		full         bool // only a full verification sees it
		table        string
		seq          mqttetl.Seq
	}{
		{"last row missing", "delete from messages where seq=100", false, "messages", 100},
		{"first row missing", "delete from messages where seq=1", false, "messages", 1},
		{"row behind a gap missing", "delete from messages where seq=61", false, "messages", 61},
		{"row in the middle missing", "delete from messages where seq in (20,21,40)", true, "messages", 20},
		{"all rows missing", "delete from messages", false, "messages", 1},
		{"row beyond the cursor", "insert into messages values(105,0,1,1,0,'',null)", false, "messages", 105},
		{"row in a gap", "insert into messages values(55,0,1,1,0,'',null)", false, "messages", 55},
		{"row before the first", "insert into messages values(-3,0,1,1,0,'',null)", false, "messages", 0},
		{"cursor back", "update meta set cursor=90", false, "messages", 91},
		{"cursor ahead", "update meta set cursor=120", false, "messages", 120},
		{"cursor gone", "delete from meta", false, "meta", 0},
		{"two cursors", "insert into meta values(1,'x',5)", false, "meta", 0},
		{"version", "update meta set schema_version=7", false, "meta", 0},
		{"gap turned round", "update gaps set last=first-1", false, "gaps", 51},
		{"gap beyond the cursor", "insert into gaps values(100,200,0)", false, "gaps", 100},
		{"topic missing", "delete from topics where id=(select topic_id from messages where seq=3)", true, "messages", 3},
		{"source missing", "delete from sources", true, "messages", 1},
		{"gap without an end", "drop table gaps; create table gaps(first, last, time); insert into gaps values(51,null,0)", false, "gaps", 0},
		{"table missing", "drop view msg; drop table messages", false, "messages", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			a := mustOpen(t, path)
			must(t, a.Append(records(1, 50)))
			must(t, a.StartAt(61))
			must(t, a.Append(records(61, 100)))
			must(t, a.Commit())
			must(t, a.Close())
			sound(t, path, 100)
			shell(t, path, c.damage)
			quick, err := Verify(context.Background(), path, false)
			must(t, err)
			r, err := Verify(context.Background(), path, true)
			must(t, err)
			if (len(quick.Problems) == 0) != c.full {
				t.Errorf("quick verification: %v", quick.Problems)
			}
			if len(r.Problems) == 0 || r.Problems[0].Table != c.table || r.Problems[0].Seq != c.seq {
				t.Errorf("problems %v, want table %s, record %d first", r.Problems, c.table, c.seq)
			}
		})
	}
}

func TestVerifyDamagedPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 5000)))
	must(t, a.Commit())
	must(t, a.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	for name, damage := range map[string]func([]byte) []byte{
		"half a file": func(b []byte) []byte { return b[:len(b)/2/pageSize*pageSize] },
		"zeroed page": func(b []byte) []byte { clear(b[len(b)-3*pageSize : len(b)-2*pageSize]); return b },
		"no header":   func(b []byte) []byte { clear(b[:16]); return b },
	} {
		must(t, os.WriteFile(path, damage(slices.Clone(whole)), 0o640))
		r, err := Verify(context.Background(), path, true)
		if err != nil || len(r.Problems) == 0 {
			t.Errorf("%s: %+v, %v; want problems", name, r, err)
		}
	}
}
