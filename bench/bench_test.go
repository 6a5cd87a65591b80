package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// TestMain lets the test binary be the roles that a measurement starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "role" || os.Args[1] == transform.WorkCommand) {
		os.Exit(execute(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// TestMeasure runs the whole pipeline, and what it is compared with, once each
// with a few messages.
func TestMeasure(t *testing.T) {
	b, err := open(t.Context(), t.Output(), t.TempDir(), "", 0.001)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r, err := b.runGroups(regexp.MustCompile(`^stages/128/(20|10000)$`), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range subjects() {
		m := r[point{s, targetShape, 0}]
		if len(m) != 1 || m[0].Rate <= 0 || m[0].CPU <= 0 || m[0].Peak <= 0 {
			t.Errorf("%s: %+v", s, m)
		}
	}
	var text bytes.Buffer
	(&report{w: &text, r: r, rounds: 1}).write()
	for _, want := range []string{"| log only: rate / null subscriber |", "| 10000 | bare JetStream publisher |"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
}

// TestCommands runs what is measured of the commands, and the export of a
// backlog, with few records.
func TestCommands(t *testing.T) {
	b, err := open(t.Context(), t.Output(), t.TempDir(), "", 0.001)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r, err := b.runGroups(regexp.MustCompile(`^(tools|drain)$`), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []subject{sqliteJSON, exportJSON, sqliteCSV, exportCSV, bareCore, replayCore, importJSON, mosquitto, pubLines, exportAll} {
		m, want := r[toolPoint(s)], 1
		if s == bareCore || s == replayCore {
			want = replaysEach
		}
		if len(m) != want || m[0].Rate <= 0 || m[0].Peak <= 0 {
			t.Errorf("%s: %+v", s, m)
		}
	}
	for _, s := range []subject{replayPace, barePace} {
		m := r[pacePoint(s)]
		if len(m) != pacesEach || m[0].Latency.Max <= 0 {
			t.Errorf("%s: %+v", s, m)
		}
	}
	var text bytes.Buffer
	(&report{w: &text, r: r, rounds: 1}).write()
	for _, want := range []string{"| mqttetl import |", "Exported as NDJSON", "## Commands", "| a program that sleeps and writes |"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
}

func TestDeviations(t *testing.T) {
	ms := int64(time.Millisecond)
	// 100 messages 1 ms apart, all late by 50 ms, one of them by 5 ms more.
	var times []int64
	for i := range int64(100) {
		times = append(times, 1e18+i*ms+50*ms)
	}
	times[40] += 5 * ms
	d := deviations(times, time.Millisecond)
	if d.P50 > 2*time.Microsecond || d.P99 > 2*time.Microsecond || (d.Max-5*time.Millisecond).Abs() > 50*time.Microsecond {
		t.Errorf("%+v", d)
	}
}

// TestOpenFails: what cannot be built is said, and nothing stays behind.
func TestOpenFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if b, err := open(ctx, t.Output(), dir, "", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", b, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestCheckArchive: a row too few, or with another message, is found.
func TestCheckArchive(t *testing.T) {
	const n = 500
	for _, c := range []struct{ name, damage, want string }{
		{"intact", ``, ""},
		{"row missing", `DELETE FROM messages WHERE seq = 77`, "499 rows"},
		{"message twice", `UPDATE messages SET payload = (SELECT payload FROM messages WHERE seq = 1) WHERE seq = 77`, "499 of them"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			fillArchive(t, filepath.Join(dir, "telemetry.db"), n, c.damage)
			err := checkArchive(dir, n)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v instead of %q", err, c.want)
			}
		})
	}
}

func fillArchive(t *testing.T, path string, n int, damage string) {
	t.Helper()
	a, err := archive.Open(path, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	next := newMessages(128)
	for seq := range n {
		err := a.Append([]mqttetl.Record{{Seq: mqttetl.Seq(seq + 1), Time: 1, Source: "bench", Message: next()}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(damage); err != nil {
		t.Fatal(err)
	}
}

// The floor of the latencies is measured beside them, with few messages.
func TestLatencies(t *testing.T) {
	b, err := open(t.Context(), t.Output(), t.TempDir(), "", 0.001)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r, err := b.runGroups(regexp.MustCompile(`^latency$`), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []point{pacedFloor, pacedLog} {
		if m := r[at]; len(m) != 1 || m[0].Latency.P99 <= 0 || m[0].Latency.Count != int64(b.pacedFor(at.rate)) {
			t.Errorf("%s: %+v", at.subject, m)
		}
	}
	var text bytes.Buffer
	(&report{w: &text, r: r, rounds: 1}).write()
	if want := "| write and sync | 10000 | PUBACK |"; !strings.Contains(text.String(), want) {
		t.Errorf("no %q in\n%s", want, &text)
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"-h"}, 0},
		{[]string{"-unknown"}, 2},
		{[]string{"-run", "("}, 1},
		{[]string{"role", "unknown", "{}"}, 1},
	} {
		var out, errs bytes.Buffer
		if code := execute(t.Context(), c.args, strings.NewReader(""), &out, &errs); code != c.code || errs.Len() == 0 {
			t.Errorf("%q: exit code %d instead of %d: %s", c.args, code, c.code, &errs)
		}
	}
}
