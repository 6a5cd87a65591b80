package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/rerun"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/store"
)

const tryRoutes = `routes:
  - {name: numbers, topic: 'a/{part}', decode: number, table: numbers, columns: {n: REAL .}}
  - {name: words, topic: 'a/2', decode: text, table: words, columns: {word: TEXT .}}
`

// trySite has an archive of a few messages, one of which no route can use.
func trySite(t *testing.T) site {
	t.Helper()
	s := newSite(t, "", "")
	s.routed(t, tryRoutes)
	a, err := archive.Open(s.archive(), "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	var letters []mqttetl.DeadLetter
	for i, payload := range []string{"0", "1.5", "2", "\x1b[31mno\xff", "4"} {
		seq := mqttetl.Seq(i + 1)
		err := a.Append([]mqttetl.Record{{Seq: seq, Time: 1_767_642_776_000_000_000 + int64(i)*60_000_000_000, Source: "plant",
			Message: mqttetl.Message{Topic: fmt.Appendf(nil, "a/%d", i%3), Payload: []byte(payload)}}})
		if err != nil {
			t.Fatal(err)
		}
		if seq == 4 {
			letters = append(letters, mqttetl.DeadLetter{Seq: 4, Stage: "transform:numbers", Reason: "no number", Time: 1}, mqttetl.DeadLetter{Seq: 4, Stage: "forward", Reason: "too large", Time: 1})
		}
	}
	if err := a.AppendDeadLetters(letters); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTransformTry(t *testing.T) {
	t.Parallel()
	s := trySite(t)
	for _, c := range []struct {
		args, out, err string
		code           int
	}{
		{"--topic a/1 --payload 21.5", `"part":"1","n":21.5}` + "\n", "", 0},
		{"--topic a/1 --payload 21.5 -o table", " numbers ", "", 0},
		{"--topic a/2 --payload 21.5 -o csv", "\ntable,seq,time,word\nwords,1,", "", 0},
		{"--topic a/2 --payload 21.5 --route words", `{"table":"words"`, "", 0},
		{"--topic a/1 --payload x", "", "record 1, a/1: route numbers: payload \"x\" is not a number", exitFailed},
		{"--topic b/1 --payload x", "", "mqttetl: no route takes the topic b/1\nhint: the routes take a/{part}, a/2\n", exitFailed},
		{"--archive", `{"table":"numbers","seq":2,"time":"2026-01-05T19:53:56Z","part":"1","n":1.5}` + "\n", `record 4, a/0: route numbers: payload "\x1b[31mno`, 0},
		{"--archive --seq 2..3 --limit 1", `{"table":"numbers","seq":2,"time":"2026-01-05T19:53:56Z","part":"1","n":1.5}` + "\n", "", 0},
		{"--archive=" + s.archive() + " --topic a/2 -o csv", "words,3,2026-01-05T19:54:56Z,2\n", "", 0},
		{"", "", "which messages?", exitUsage},
		{"--topic a/+ --payload 1", "", "without + and #", exitUsage},
		{"--live --since 1h", "", "begins now", exitUsage},
		{"--topic a/1 --payload 1 --route x", "", "no such route, only numbers, words", exitUsage},
		{"--archive=/nowhere/a.db", "", "/nowhere/a.db", exitIO},
	} {
		r := call(t, append([]string{"transform", "try", "-c", s.config}, strings.Fields(c.args)...)...)
		if r.code != c.code || !strings.Contains(r.out, c.out) || !strings.Contains(r.err, c.err) || c.out == "" && r.out != "" {
			t.Errorf("%s: exit %d\n%s%s", c.args, r.code, r.out, r.err)
		}
		if strings.Contains(r.out+r.err, "\x1b") {
			t.Errorf("%s: a terminal would obey %q", c.args, r.out+r.err)
		}
	}
	if left := s.ask(t, `SELECT name FROM sqlite_schema WHERE name = 'numbers'`); len(left) > 0 {
		t.Error("try has written")
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s := trySite(t)
	for args, want := range map[string]string{
		"": `{"seq":4,"time":"2026-01-05T19:55:56Z","topic":"a/0","source":"plant","stage":"forward","reason":"too large","failed":"1970-01-01T00:00:00.000000001Z","payload":{"base64":"G1szMW1ub/8="}}` + "\n" +
			`{"seq":4,"time":"2026-01-05T19:55:56Z","topic":"a/0","source":"plant","stage":"transform:numbers","reason":"no number",`,
		"--count":                 `{"stage":"forward","count":1}` + "\n" + `{"stage":"transform:numbers","count":1}` + "\n",
		"--count --route numbers": `{"stage":"transform:numbers","count":1}` + "\n",
		"--topic a/1":             "",
		"--route words":           "",
		"--until 2026-01-05":      "",
		"--limit 1 --count":       `{"stage":"forward","count":1}` + "\n",
		"-o csv --limit 1":        "seq,time,topic,source,stage,reason,failed,payload\n4,",
		"-o table --limit 1":      "(8 bytes) 1b5b33316d6e6fff",
	} {
		r := call(t, append([]string{"dead-letters", "-c", s.config}, strings.Fields(args)...)...)
		if r.code != 0 || !strings.Contains(r.out, want) || want == "" && (r.out != "" || r.err == "") || strings.Contains(r.out, "\x1b") {
			t.Errorf("%s: exit %d\n%s%s", args, r.code, r.out, r.err)
		}
	}
	for args, want := range map[string]int{"--route x": exitUsage, "--archive /nowhere/a.db": exitIO, "-c /nowhere/c.yaml": exitConfig} {
		if r := call(t, append([]string{"dead-letters", "-c", s.config}, strings.Fields(args)...)...); r.code != want {
			t.Errorf("%s: %+v", args, r)
		}
	}
}

// What cannot be rerun is refused before anything is written.
func TestRerunRefuses(t *testing.T) {
	t.Parallel()
	s := trySite(t)
	if r := call(t, "transform", "rerun", "-c", s.config, "--route", "x"); r.code != exitUsage || !strings.Contains(r.err, "only numbers, words") {
		t.Errorf("%+v", r)
	}
	if r := call(t, "transform", "rerun", "-c", s.config); r.code != exitUsage {
		t.Errorf("%+v", r)
	}
	r, err := archive.OpenRerun(t.Context(), s.archive(), store.Table{Name: "numbers"})
	if err != nil {
		t.Fatal(err)
	}
	if o := call(t, "transform", "rerun", "-c", s.config, "--route", "numbers"); o.code != exitIO || !strings.Contains(o.err, "another rerun is under way") {
		t.Errorf("%+v", o)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if o := call(t, "transform", "rerun", "-c", s.config, "--route", "numbers", "--resume"); o.code != 0 || !strings.HasPrefix(o.err, "no rerun of table numbers was interrupted: beginning anew\n") {
		t.Errorf("%+v", o)
	}
	// Killed behind the swap, it has left the old table.
	if out, err := inShell(s.dir, "sqlite3 telemetry.db 'create table mqttetl_old_numbers(x)'").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if o := call(t, "transform", "rerun", "-c", s.config, "--route", "numbers", "--resume"); o.code != 0 || o.err != "table numbers has been replaced already\n" {
		t.Errorf("%+v", o)
	}
	if left := s.ask(t, `SELECT name FROM sqlite_schema WHERE name LIKE 'mqttetl_old%'`); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if got := s.ask(t, lettersHave); len(got) != 1 {
		t.Errorf("dead letters %v", got)
	}
	if err := os.Remove(s.archive()); err != nil {
		t.Fatal(err)
	}
	if o := call(t, "transform", "rerun", "-c", s.config, "--route", "numbers"); o.code != exitUnreachable {
		t.Errorf("%+v", o)
	}
	writeFile(t, s.archive(), "")
	if o := call(t, "transform", "rerun", "-c", s.config, "--route", "numbers"); o.code != exitUnreachable {
		t.Errorf("%+v", o)
	}
	// A configuration without routes is wrong whoever needs one.
	b, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	without, _, _ := strings.Cut(string(b), "routes:")
	s.write(t, without)
	for _, args := range []string{"try --topic a --payload 1", "try --topic a --payload 1 --route numbers", "rerun --route numbers", "rerun --publish --route numbers"} {
		if o := call(t, append([]string{"transform"}, append(strings.Fields(args), "-c", s.config)...)...); o.code != exitConfig || !strings.Contains(o.err, "no routes") {
			t.Errorf("%s: %+v", args, o)
		}
	}
	s.write(t, string(b))
	newer := filepath.Join(t.TempDir(), "newer.db")
	if out, err := inShell(t.TempDir(), fmt.Sprintf("sqlite3 %s 'pragma application_id=%d; pragma user_version=99; create table x(y)'", newer, 0x6d71746c)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.write(t, strings.ReplaceAll(string(b), s.archive(), newer))
	for _, args := range []string{"transform rerun --route numbers", "dead-letters", "transform try --archive"} {
		if o := call(t, append(strings.Fields(args), "-c", s.config)...); o.code != exitDamaged || !strings.Contains(o.err, "schema version 99") {
			t.Errorf("%s: %+v", args, o)
		}
	}
}

// An archive that the service has not made yet is nothing that is broken.
func TestDeadLettersBeforeTheFirstRun(t *testing.T) {
	t.Parallel()
	s := trySite(t)
	b, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, strings.ReplaceAll(string(b), s.archive(), filepath.Join(t.TempDir(), "none.db")))
	if o := call(t, "dead-letters", "-c", s.config); o.code != exitUnreachable || !strings.Contains(o.err, "nothing has been recorded") {
		t.Errorf("%+v", o)
	}
}

func TestRerunProgress(t *testing.T) {
	t.Parallel()
	if got := rerunProgress(1000, 3000, 9000, 2*time.Second); got != "record 3000 of 9000  1000/s  6s to go" {
		t.Error(got)
	}
	if got := rerunProgress(5, 5, 5, 0); got != "record 5 of 5  0/s" {
		t.Error(got)
	}
}

// What was interrupted is not resumed by other routes; without --resume it
// begins anew.
func TestRerunResumesOnlyTheSameRoutes(t *testing.T) {
	t.Parallel()
	s := trySite(t)
	r, err := archive.OpenRerun(t.Context(), s.archive(), store.Table{Name: "numbers", Columns: []store.Column{{Name: "part", Type: store.Text}, {Name: "n", Type: store.Real}}})
	if err == nil {
		err = r.Begin(t.Context(), archive.RerunState{Routes: "others", First: 1})
	}
	if err == nil {
		err = r.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if o := call(t, "transform", "rerun", "-c", s.config, "--route", "numbers", "--resume"); o.code != exitFailed || !strings.Contains(o.err, "the routes have changed") {
		t.Errorf("%+v", o)
	}
	if o := call(t, "transform", "rerun", "-c", s.config, "--route", "numbers"); o.code != 0 || !strings.HasPrefix(o.err, "table numbers: 4 rows of 5 messages, records 1 to 5; dead letters: 1, before 1\n") {
		t.Errorf("%+v", o)
	}
}

// The same holds for another --since, and for a descriptor file that is another.
func TestRerunResumesOnlyTheSameMessages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	proto, descriptor := filepath.Join(dir, "m.proto"), filepath.Join(dir, "m.desc")
	compile := func(field string) {
		t.Helper()
		writeFile(t, proto, `syntax = "proto3"; message M { int64 n = 1; `+field+` }`)
		if out, err := inShell(dir, "protoc -o m.desc m.proto").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	compile("")
	s := trySite(t)
	s.routed(t, fmt.Sprintf("routes:\n  - {name: r, topic: 'a/+', decode: protobuf, descriptor: %q, message: M, table: r, columns: {n: INTEGER}}\n", descriptor))
	const since = "2000-01-01"
	interrupted := func() {
		t.Helper()
		cfg, err := loadStores(s.config)
		if err != nil {
			t.Fatal(err)
		}
		id, err := rerun.Identity(cfg.Routes, since)
		if err != nil {
			t.Fatal(err)
		}
		r, err := archive.OpenRerun(t.Context(), s.archive(), store.Table{Name: "r", Columns: []store.Column{{Name: "n", Type: store.Integer}}})
		if err == nil {
			err = errors.Join(r.Begin(t.Context(), archive.RerunState{Routes: id, First: 1}), r.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	resume := func(more ...string) outcome {
		return call(t, append([]string{"transform", "rerun", "-c", s.config, "--route", "r", "--resume"}, more...)...)
	}
	interrupted()
	if o := resume(); o.code != exitFailed || !strings.Contains(o.err, "had another --since") || !strings.Contains(o.err, "hint: give --since 2000-01-01 to go on") {
		t.Errorf("%+v", o)
	}
	compile("string s = 2;")
	if o := resume("--since", since); o.code != exitFailed || !strings.Contains(o.err, "a descriptor file of its routes has changed") {
		t.Errorf("%+v", o)
	}
	compile("")
	if o := resume("--since", since); o.code != 0 {
		t.Errorf("%+v", o)
	}
}
