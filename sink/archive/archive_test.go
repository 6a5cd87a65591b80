package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

// shell runs the sqlite3 command line, the reader that the schema is made for.
func shell(tb testing.TB, path string, args ...string) string {
	tb.Helper()
	out, err := exec.Command("sqlite3", append([]string{path}, args...)...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		tb.Fatal("sqlite3 is missing: apt-get install sqlite3")
	}
	if err != nil {
		tb.Fatalf("sqlite3 %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func record(seq mqttetl.Seq, topic, payload string) mqttetl.Record {
	return mqttetl.Record{Seq: seq, Time: int64(seq), Source: "plant",
		Message: mqttetl.Message{Topic: []byte(topic), Payload: []byte(payload), Flags: 1}}
}

func records(first, last mqttetl.Seq) (rs []mqttetl.Record) {
	for seq := first; seq <= last; seq++ {
		rs = append(rs, record(seq, fmt.Sprintf("t/%d", seq%7), fmt.Sprint("payload ", seq)))
	}
	return rs
}

func sound(tb testing.TB, path string, cursor mqttetl.Seq) {
	tb.Helper()
	r, err := Verify(context.Background(), path, true)
	must(tb, err)
	if len(r.Problems) > 0 || r.Cursor != cursor || r.LogID != testLog {
		tb.Fatalf("verify: %+v, want cursor %d and no problems", r, cursor)
	}
}

func TestReopenContinuesAtTheCursor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "a.db")
	steps := []struct {
		name     string
		first    mqttetl.Seq
		last     mqttetl.Seq
		end      func(*Archive) error
		cursor   mqttetl.Seq
		messages string
	}{
		{"commit", 1, 10, (*Archive).Commit, 10, "10"},
		{"rollback", 11, 20, (*Archive).Rollback, 10, "10"},
		{"close without commit", 11, 15, func(*Archive) error { return nil }, 10, "10"},
		{"again", 11, 15, (*Archive).Commit, 15, "15"},
	}
	for _, s := range steps {
		a := mustOpen(t, path)
		must(t, a.Append(records(s.first, s.last)))
		must(t, s.end(a))
		if a.Cursor() != s.cursor {
			t.Fatalf("%s: cursor %d, want %d", s.name, a.Cursor(), s.cursor)
		}
		if got := shell(t, path, "select count(*) from msg"); got != s.messages {
			t.Fatalf("%s: sqlite3 sees %s rows while the archive is open, want %s", s.name, got, s.messages)
		}
		must(t, a.Close())
		if _, err := os.Stat(path + walSuffix); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: -wal after Close: %v", s.name, err)
		}
		id, cursor, err := ReadCursor(path)
		if err != nil || id != testLog || cursor != s.cursor {
			t.Fatalf("%s: ReadCursor: %s %d %v", s.name, id, cursor, err)
		}
		sound(t, path, s.cursor)
	}
	for p, want := range map[string]os.FileMode{path: 0o640, filepath.Dir(path): 0o750 | os.ModeDir} {
		info, err := os.Stat(p)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", p, info.Mode(), want)
		}
	}
}

// The bytes that have broken archives before: each comes back as it was, by
// the view, in the type that the contract names.
func TestByteExact(t *testing.T) {
	many := mqttetl.Properties(nil)
	for i := range 1000 {
		many = append(many, 0x26, 0, 3, 'k', '0'+byte(i%10), '"', 0, 2, byte(i), 'v')
	}
	random := make([]byte, 5<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	cases := []struct {
		name, payload, topic string
		properties           mqttetl.Properties
		typ                  string
	}{
		{"text", "21.5", "a/b", nil, "text"},
		{"empty payload", "", "a/b", nil, "text"},
		{"NUL alone", "\x00", "a/b", nil, "blob"},
		{"NUL inside", "a\x00b", "a/b", nil, "blob"},
		{"invalid UTF-8", "\xff\xfe", "a/b", nil, "blob"},
		{"surrogate", "\xed\xa0\x80", "a/b", nil, "blob"},
		{"UTF-8", "21 °C 🌡", "a/b", nil, "text"},
		{"5 MiB text", strings.Repeat("0123456789abcdef", 5<<16), "a/b", nil, "text"},
		{"5 MiB binary", string(random), "a/b", nil, "blob"},
		{"topic with empty levels", "x", "//a//", nil, "text"},
		{"empty topic", "x", "", nil, "text"},
		{"64 KiB topic", "x", strings.Repeat("t", 65535), nil, "text"},
		{"invalid UTF-8 topic", "x", "a/\xff\x80", nil, "text"},
		{"another of the same start", "x", "a/\xff\x81", nil, "text"},
		{"NUL topic", "x", "a/\x00b", nil, "text"},
		{"NUL topic of the same start", "x", "a/\x00c", nil, "text"},
		{"1,000 user properties", "x", "a/b", many, "text"},
		{"malformed properties", "x", "a/b", mqttetl.Properties{0x26, 9}, "text"},
		{"text after blob", "text", "a/b", nil, "text"},
	}
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	var in []mqttetl.Record
	for i, c := range cases {
		r := record(mqttetl.Seq(i+1), c.topic, c.payload)
		r.Properties = c.properties
		in = append(in, r)
	}
	must(t, a.Append(in))
	must(t, a.Commit())
	must(t, a.Close())
	a = mustOpen(t, path) // the dictionary is empty again and must find the same topics
	again := mqttetl.Seq(len(cases))
	for i := range in {
		in[i].Seq += again
	}
	must(t, a.Append(in))
	must(t, a.Commit())
	for i := range 2 * len(cases) {
		c := cases[i%len(cases)]
		var topic, payload []byte
		var typ string
		var properties *string
		must(t, a.conn.QueryRowContext(background, `SELECT CAST(topic AS BLOB), CAST(payload AS BLOB), typeof(payload), properties FROM msg WHERE seq = ?`, i+1).
			Scan(&topic, &payload, &typ, &properties))
		if string(topic) != c.topic || string(payload) != c.payload || typ != c.typ {
			t.Errorf("%s: topic of %d bytes, %s payload of %d bytes do not come back as %d and %d", c.name, len(topic), typ, len(payload), len(c.topic), len(c.payload))
		}
		if want := string(c.properties.AppendJSON(nil)); (properties == nil) != (c.properties == nil) || properties != nil && *properties != want {
			t.Errorf("%s: properties differ", c.name)
		}
		hex := shell(t, path, fmt.Sprintf("select hex(cast(substr(cast(payload as blob),1,64) as blob)) from msg where seq=%d", i+1))
		if want := strings.ToUpper(fmt.Sprintf("%x", c.payload[:min(64, len(c.payload))])); hex != want {
			t.Errorf("%s: sqlite3 reads %s, want %s", c.name, hex, want)
		}
	}
	if got := shell(t, path, "select json_array_length(properties, '$.user-properties') from msg where seq=17"); got != "1000" {
		t.Errorf("sqlite3 counts %s user properties", got)
	}
	sound(t, path, 2*again)
}

func TestViewTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	times := []time.Time{
		time.Unix(0, 0), time.Unix(0, 1), time.Unix(0, -1), time.Unix(-1, 0), time.Unix(-86400*365*100, 5),
		time.Unix(0, 1<<63-1), time.Unix(0, -1<<63), time.Date(2026, 2, 28, 23, 59, 59, 999999999, time.UTC),
	}
	for i, at := range times {
		r := record(mqttetl.Seq(i+1), "t", "p")
		r.Time, r.Flags = at.UnixNano(), 2|mqttetl.FlagRetain|mqttetl.FlagDup
		must(t, a.Append([]mqttetl.Record{r}))
	}
	must(t, a.Commit())
	for i, at := range times {
		got := shell(t, path, fmt.Sprintf("select time, topic, source, qos, retain from msg where seq=%d", i+1))
		if want := at.UTC().Format("2006-01-02T15:04:05.000000000Z") + "|t|plant|2|1"; got != want {
			t.Errorf("view shows %s, want %s", got, want)
		}
	}
}

func TestOrder(t *testing.T) {
	a := mustOpen(t, filepath.Join(t.TempDir(), "a.db"))
	must(t, a.Append(records(1, 3)))
	for name, rs := range map[string][]mqttetl.Record{
		"again":      records(3, 3),
		"hole":       records(5, 5),
		"hole later": append(records(4, 4), records(6, 6)...),
		"zero":       records(0, 0),
	} {
		if err := a.Append(rs); !errors.Is(err, mqttetl.ErrForeign) {
			t.Errorf("%s: %v, want ErrForeign", name, err)
		}
	}
	must(t, a.Commit())
	if err := a.StartAt(2); !errors.Is(err, mqttetl.ErrForeign) {
		t.Errorf("StartAt backwards: %v, want ErrForeign", err)
	}
	must(t, a.StartAt(4))
	if a.inTx {
		t.Error("StartAt of the next record opened a transaction")
	}
}

func TestGapIsNoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.StartAt(90))
	must(t, a.Rollback())
	must(t, a.StartAt(50))
	must(t, a.Commit())
	if a.Cursor() != 49 {
		t.Fatalf("cursor %d after a gap up to 49", a.Cursor())
	}
	must(t, a.Append(records(50, 60)))
	must(t, a.StartAt(71))
	must(t, a.Append(records(71, 71)))
	must(t, a.Commit())
	r, err := Verify(context.Background(), path, true)
	must(t, err)
	if want := []Gap{{1, 49}, {61, 70}}; !slices.Equal(r.Gaps, want) || r.Problems != nil || r.Cursor != 71 {
		t.Fatalf("verify: %+v, want gaps %v", r, want)
	}
}

func TestRollbackForgetsNewTopics(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append([]mqttetl.Record{record(1, "old", "")}))
	must(t, a.Commit())
	must(t, a.Append([]mqttetl.Record{record(2, "new", "")}))
	must(t, a.Rollback())
	must(t, a.Append([]mqttetl.Record{record(2, "other", ""), record(3, "new", ""), record(4, "old", "")}))
	must(t, a.Commit())
	if got := shell(t, path, "select group_concat(topic,' ') from (select topic from msg order by seq)"); got != "old other new old" {
		t.Fatalf("topics %q", got)
	}
	sound(t, path, 4)
}

func TestMoreTopicsThanTheDictionaryHolds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	long := strings.Repeat("x", 60_000)
	for round := range 2 {
		for i := range 400 { // 24 MB of names
			seq := mqttetl.Seq(round*400 + i + 1)
			must(t, a.Append([]mqttetl.Record{record(seq, fmt.Sprint(long, i), "p")}))
		}
		if a.topics.bytes > maxNameBytes {
			t.Fatalf("dictionary holds %d bytes", a.topics.bytes)
		}
		must(t, a.Commit())
	}
	if got := shell(t, path, "select count(*) from topics"); got != "400" {
		t.Fatalf("%s topics", got)
	}
	sound(t, path, 800)
}

func TestDeadLettersTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	ds := []mqttetl.DeadLetter{{Seq: 7, Stage: "forward", Reason: "too large", Time: 5}, {Seq: 7, Stage: "other", Reason: "why\x00not", Time: 6}}
	must(t, a.AppendDeadLetters(ds))
	must(t, a.Commit())
	ds[0].Time = 9
	must(t, a.AppendDeadLetters(append(ds, mqttetl.DeadLetter{Seq: 8, Stage: "forward", Reason: "too large", Time: 9})))
	must(t, a.Commit())
	if got := shell(t, path, "select group_concat(seq||stage||time) from dead_letters"); got != "7forward5,7other6,8forward9" {
		t.Fatalf("dead letters: %s", got)
	}
	if a.Cursor() != 0 {
		t.Fatalf("dead letters moved the cursor to %d", a.Cursor())
	}
}

// TestEachLetter: a dead letter is selected by its message or, where the archive
// does not have that, by its number alone.
func TestEachLetter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.StartAt(5))
	must(t, a.Append([]mqttetl.Record{record(5, "a", "five"), record(6, "b", "six"), record(7, "a", "seven")}))
	for _, l := range []mqttetl.DeadLetter{{Seq: 2, Stage: "forward", Reason: "gone"}, {Seq: 5, Stage: "transform:it's", Reason: "x"}, {Seq: 5, Stage: "forward"}, {Seq: 6, Stage: "forward"}, {Seq: 7, Stage: "forward"}} {
		must(t, a.AppendDeadLetters([]mqttetl.DeadLetter{l}))
	}
	must(t, a.Commit())
	must(t, a.Close())
	for _, c := range []struct {
		sel    mqttetl.Selection
		stages []string
		want   string
	}{
		{mqttetl.Selection{}, nil, "2 forward <nil>, 5 forward five, 5 transform:it's five, 6 forward six, 7 forward seven"},
		{mqttetl.Selection{}, []string{"transform:it's", "none"}, "5 transform:it's five"},
		{mqttetl.Selection{Topics: []mqttetl.Filter{"a"}}, []string{"forward"}, "5 forward five, 7 forward seven"},
		{mqttetl.Selection{Topics: []mqttetl.Filter{"a"}, Limit: 2}, nil, "5 forward five, 5 transform:it's five"},
		{mqttetl.Selection{From: 1, To: 5}, []string{"forward"}, "2 forward <nil>, 5 forward five"},
	} {
		var got []string
		must(t, EachLetter(t.Context(), path, &c.sel, c.stages, func(l *Letter) error {
			got = append(got, fmt.Sprint(l.Seq, " ", l.Stage, " ", l.Payload))
			return nil
		}))
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%+v of %v: %s, want %s", c.sel, c.stages, text, c.want)
		}
	}
}

func TestSeveralArchivesAtOnce(t *testing.T) {
	dir := t.TempDir()
	var as []*Archive
	for i := range 3 {
		a := mustOpen(t, filepath.Join(dir, fmt.Sprint(i)))
		must(t, a.Append([]mqttetl.Record{record(1, fmt.Sprint("t", i), fmt.Sprint("p", i))}))
		as = append(as, a)
	}
	for i, a := range as {
		must(t, a.Append([]mqttetl.Record{record(2, "t", fmt.Sprint("q", i))}))
		must(t, a.Commit())
		if got := shell(t, a.path, "select group_concat(payload) from msg"); got != fmt.Sprintf("p%d,q%d", i, i) {
			t.Errorf("archive %d holds %s", i, got)
		}
	}
}

// A schema change by somebody else is noticed before anything is written, and
// the archive opened anew goes on.
func TestIndexAddedByAnotherProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 10)))
	must(t, a.Commit())
	shell(t, path, "create index by_topic on messages(topic_id, time)")
	if err := a.Append(records(11, 20)); !errors.Is(err, store.ErrChanged) {
		t.Fatalf("Append: %v, want store.ErrChanged", err)
	}
	must(t, a.Close())
	a = mustOpen(t, path)
	must(t, a.Append(records(11, 20)))
	must(t, a.Commit())
	sound(t, path, 20)
}

func TestGone(t *testing.T) {
	for name, remove := range map[string]func(path string) error{
		"deleted":     os.Remove,
		"moved":       func(p string) error { return os.Rename(p, p+".old") },
		"wal deleted": func(p string) error { return os.Remove(p + walSuffix) },
		"replaced": func(p string) error {
			return errors.Join(os.WriteFile(p+".new", nil, 0o640), os.Rename(p+".new", p))
		},
	} {
		path := filepath.Join(t.TempDir(), "a.db")
		a := mustOpen(t, path)
		must(t, a.Append(records(1, 3)))
		must(t, a.Commit())
		if _, err := a.State(); err != nil {
			t.Errorf("%s: gone before it was", name)
		}
		must(t, remove(path))
		if _, err := a.State(); err == nil {
			t.Errorf("%s: not noticed", name)
		}
		must(t, a.Close())
		a = mustOpen(t, path)
		must(t, a.Append(records(a.Cursor()+1, a.Cursor()+5)))
		must(t, a.Commit())
		sound(t, path, a.Cursor())
	}
}

// A reader that keeps its snapshot must not make the write-ahead log grow for
// ever after it has gone, nor stop the archive.
func TestWriteAheadLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	must(t, a.Append(records(1, 1)))
	must(t, a.Commit())
	payload := string(bytes.Repeat([]byte("x"), 1<<20))
	fill := func(mib int) int64 {
		for range mib {
			must(t, a.Append([]mqttetl.Record{record(a.Cursor()+1, "t", payload)}))
			must(t, a.Commit())
		}
		info, err := os.Stat(path + walSuffix)
		must(t, err)
		return info.Size()
	}
	if size := fill(64); size > 3*walStep {
		t.Errorf("write-ahead log has %d bytes without a reader", size)
	}
	db, reader, err := connect(path, "mode=ro")
	must(t, err)
	defer db.Close()
	_, err = reader.ExecContext(background, "BEGIN; SELECT count(*) FROM messages")
	must(t, err)
	if size := fill(100); size < 100<<20 {
		t.Fatalf("write-ahead log has %d bytes: the reader does not hold it", size)
	}
	_, err = reader.ExecContext(background, "ROLLBACK")
	must(t, err)
	if size := fill(2 * walStep >> 20); size > walKept {
		t.Errorf("write-ahead log has %d bytes after the reader has gone", size)
	}
	must(t, reader.Close())
}
