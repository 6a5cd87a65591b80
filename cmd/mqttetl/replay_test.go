package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// archiveOf makes an archive of records with those times and payload lengths.
func archiveOf(t testing.TB, times []int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.db")
	a, err := archive.Open(path, "00112233445566aa")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for i, at := range times {
		r := mqttetl.Record{Seq: mqttetl.Seq(i + 1), Time: at, Source: []string{"x", "y"}[i%2],
			Message: mqttetl.Message{Topic: fmt.Appendf(nil, "t/%d", i%3), Payload: fmt.Append(nil, i)}}
		if err := a.Append([]mqttetl.Record{r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

// arrivals runs a replay to standard output and notes when each line comes.
func arrivals(t *testing.T, args ...string) (at []time.Duration) {
	t.Helper()
	r, w := io.Pipe()
	code := make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		c := exec(t.Context(), append([]string{"replay", "--to", "-"}, args...), nil, w, &errs)
		w.Close()
		code <- c
	}()
	var begin time.Time
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if begin.IsZero() {
			begin = time.Now()
		}
		at = append(at, time.Since(begin))
	}
	if c := <-code; c != 0 {
		t.Fatalf("exit %d: %s", c, errs.String())
	}
	return at
}

// minute is a recording of one minute: a burst of 50 messages every second.
func minute() (times []int64) {
	for second := range int64(61) {
		for i := range int64(50) {
			times = append(times, 1_700_000_000e9+second*1e9+i*1000)
		}
	}
	return times[:60*50+1]
}

// The best of three counts: a busy machine can hold up any of them.
func TestReplayTenTimesAsFastKeepsTheBursts(t *testing.T) {
	t.Parallel()
	times := minute()
	path := archiveOf(t, times)
	for try := 1; ; try++ {
		at := arrivals(t, "--archive", path, "--speed", "10")
		if len(at) != len(times) {
			t.Fatalf("%d lines, want %d", len(at), len(times))
		}
		var off []time.Duration
		for i := range at {
			want := time.Duration(times[i]-times[0]) / 10
			off = append(off, (at[i] - want).Abs())
		}
		slices.Sort(off)
		total, median := at[len(at)-1], off[len(off)/2]
		if math.Abs(total.Seconds()-6) <= 0.3 && median <= 20*time.Millisecond { // bursts are 100 ms apart
			return
		}
		t.Logf("one minute took %v, want 6 s ± 5 %%; lines come %v from their time in the median", total, median)
		if try == 3 {
			t.FailNow()
		}
	}
}

// The best of three counts here too: of a line that comes late the next one
// seems to come early.
func TestReplayShortensSilence(t *testing.T) {
	t.Parallel()
	const silence = 10 * time.Second
	path := archiveOf(t, []int64{0, int64(silence), int64(silence) + 100e6, 2 * int64(silence)})
	for _, c := range []struct {
		flag, value          string
		first, second, third time.Duration // between the lines, as it should be; 0: no matter
	}{
		{"--max-gap", "1s", time.Second, 0, time.Second},
		{"--rate", "2", 500 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond},
	} {
		for try := 1; ; try++ {
			at := arrivals(t, "--archive", path, c.flag, c.value)
			if len(at) != 4 {
				t.Fatalf("%s: %d lines", c.flag, len(at))
			}
			if at[1] >= c.first/2 && at[2]-at[1] >= c.second/2 && at[3]-at[2] >= c.third/2 && at[3] < silence {
				break
			}
			t.Logf("%s %s: lines at %v", c.flag, c.value, at)
			if try == 3 {
				t.FailNow()
			}
		}
	}
}

// Through WebSocket and TLS the broker confirms as it does over TCP.
func TestReplayThroughWebSocket(t *testing.T) {
	t.Parallel()
	path := archiveOf(t, minute())
	b := startToolBroker(t, "")
	host, port := b.transports["ws"][1], b.transports["ws"][3]
	for name, to := range map[string][]string{
		"ws":  {"ws://" + net.JoinHostPort(host, port) + "/mqtt"},
		"wss": {b.transports["wss"][1], "--ca", b.ca},
	} {
		_, said := mqttetlOut(t, 0, append([]string{"replay", "--archive", path, "--speed", "max", "--qos", "1", "--to"}, to...)...)
		if !strings.Contains(said, "selected 3001 = sent 3001, confirmed 3001") {
			t.Errorf("%s: %s", name, said)
		}
	}
	for flags, want := range map[string]string{
		"--to ws://127.0.0.1:1 --stream S":          "nats+ws://",
		"--to nats://127.0.0.1:1 --stream S --loop": "--new-ids",
		"--to - --loop --limit 3 --resume x":        "leave out --resume",
		"--to ftp://127.0.0.1":                      "must be",
	} {
		if _, said := mqttetlOut(t, exitUsage, append([]string{"replay", "--archive", path}, strings.Fields(flags)...)...); !strings.Contains(said, want) {
			t.Errorf("%s: %s", flags, said)
		}
	}
	if _, said := mqttetlOut(t, exitUsage, "export", path); !strings.Contains(said, "-c FILE names the configuration") {
		t.Error(said)
	}
}

// run runs the command line and returns what it printed.
func mqttetlOut(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := exec(t.Context(), args, strings.NewReader(""), &out, &errs); code != want {
		t.Errorf("mqttetl %s: exit %d, want %d\n%s", strings.Join(args, " "), code, want, errs.String())
	}
	return out.String(), errs.String()
}

func TestReplayIsDeterministicAndRewrites(t *testing.T) {
	t.Parallel()
	path := archiveOf(t, minute())
	args := []string{"replay", "--to", "-", "--archive", path, "--speed", "max", "--topic-map", `t/([01])=new/$1`, "--topic-prefix", "p/"}
	first, account := mqttetlOut(t, 0, args...)
	second, _ := mqttetlOut(t, 0, args...)
	if first != second || strings.Count(first, "\n") != 3001 || !strings.Contains(account, "selected 3001 = sent 3001, confirmed 3001") {
		t.Errorf("played twice, the bytes differ, or lines are missing: %s", account)
	}
	for _, topic := range []string{`"topic":"p/new/0"`, `"topic":"p/new/1"`, `"topic":"p/t/2"`} {
		if strings.Count(first, topic) < 1000 {
			t.Errorf("%s is not there", topic)
		}
	}
}

func TestSelectionsOfAllCommands(t *testing.T) {
	t.Parallel()
	path := archiveOf(t, minute())
	for _, c := range []struct {
		args  []string
		lines int
	}{
		{nil, 3001}, {[]string{"--seq", "100..200"}, 101}, {[]string{"--seq", "3000.."}, 2}, {[]string{"--seq", "7"}, 1}, {[]string{"--limit", "5"}, 5},
		{[]string{"--topic", "t/1"}, 1000}, {[]string{"-t", "t/1", "-t", "+/2"}, 2000}, {[]string{"--topic", "none/#"}, 0}, {[]string{"--source", "x"}, 1501},
		{[]string{"--since", "2023-11-14T22:13:30Z", "--until", "2023-11-14T22:13:31Z"}, 50}, {[]string{"--since", "1h"}, 0},
	} {
		for _, command := range [][]string{{"export"}, {"replay", "--to", "-", "--speed", "max"}, {"query", "--last", "0"}} {
			out, errs := mqttetlOut(t, 0, slices.Concat(command, []string{"--archive", path}, c.args)...)
			if n := strings.Count(out, "\n"); n != c.lines {
				t.Errorf("%v %v: %d lines, want %d", command, c.args, n, c.lines)
			}
			if c.lines == 0 && !strings.Contains(errs, "no record matches") {
				t.Errorf("%v %v says %q", command, c.args, errs)
			}
		}
	}
	for _, bad := range [][]string{{"--since", "soon"}, {"--seq", "5..2"}, {"--seq", "x"}, {"--topic", "a/#/b"}, {"--since", "now", "--until", "1h"}} {
		mqttetlOut(t, exitUsage, slices.Concat([]string{"export", "--archive", path}, bad)...)
	}
	for _, bad := range [][]string{{"--to", "http://x"}, {"--to", "-", "--speed", "fast"}, {"--to", "-", "--stream", "x"}, {"--to", "mqtt://x", "--qos", "3"}, {"--to", "-", "--topic-map", "("}} {
		mqttetlOut(t, exitUsage, slices.Concat([]string{"replay", "--archive", path}, bad)...)
	}
	mqttetlOut(t, exitUnreachable, "replay", "--archive", path, "--to", "mqtt://127.0.0.1:1")
	mqttetlOut(t, exitUnreachable, "replay", "--archive", path, "--to", "nats://127.0.0.1:1")
	mqttetlOut(t, exitIO, "export", "--archive", path+".none")
}

func TestQueryCounts(t *testing.T) {
	t.Parallel()
	path := archiveOf(t, minute())
	out, _ := mqttetlOut(t, 0, "query", "--archive", path, "--by", "topic")
	var g group
	if err := json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &g); err != nil || g.Name != "t/0" || g.Count != 1001 || strings.Count(out, "\n") != 3 {
		t.Errorf("%+v, %v\n%s", g, err, out)
	}
	out, _ = mqttetlOut(t, 0, "query", "--archive", path, "--count", "--topic", "t/0")
	if !strings.Contains(out, `"count":1001,`) {
		t.Error(out)
	}
	out, _ = mqttetlOut(t, 0, "query", "--archive", path, "--last", "3", "--topic", "t/0", "-o", "csv")
	if lines := strings.Split(out, "\n"); len(lines) != 5 || !strings.HasPrefix(lines[1], "2995,") || !strings.HasPrefix(lines[3], "3001,") {
		t.Error(out)
	}
	out, _ = mqttetlOut(t, 0, "query", "--archive", path, "--sql", "select count(*) n, null x, x'00ff' b from msg")
	if out != `{"n":3001,"x":null,"b":{"base64":"AP8="}}`+"\n" {
		t.Error(out)
	}
	mqttetlOut(t, exitUsage, "query", "--archive", path, "--sql", "delete from messages")
	mqttetlOut(t, exitFailed, "query", "--archive", path, "--sql", "with a as (select 1) delete from messages")
	hours := []*group{{Name: "2026-01-01T00:00:00Z", Count: 3600}, {Name: "2026-01-01T03:00:00Z", Count: 7200}}
	if line := sparkline(hours); line != "▄  █  up to 2.0/s" {
		t.Errorf("%q", line)
	}
}

func TestTailFollowsAnArchive(t *testing.T) {
	t.Parallel()
	path := archiveOf(t, minute())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- exec(ctx, []string{"tail", "--archive", path, "--last", "2", "-C", "4", "-v"}, nil, w, io.Discard)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	next := func() string { lines.Scan(); return lines.Text() }
	if a, b := next(), next(); a != "t/2 2999" || b != "t/0 3000" {
		t.Errorf("%q %q", a, b)
	}
	a, err := archive.Open(path, "00112233445566aa")
	if err != nil {
		t.Fatal(err)
	}
	var more []mqttetl.Record
	for i := range 3 {
		more = append(more, mqttetl.Record{Seq: mqttetl.Seq(3002 + i), Source: "x", Message: mqttetl.Message{Topic: []byte("new"), Payload: fmt.Append(nil, i)}})
	}
	if err := errors.Join(a.Append(more), a.Commit(), a.Close()); err != nil {
		t.Fatal(err)
	}
	if a, b := next(), next(); a != "new 0" || b != "new 1" {
		t.Errorf("%q %q", a, b)
	}
	if c := <-code; c != 0 {
		t.Errorf("exit %d", c)
	}
}

// BenchmarkExport compares an export with what the sqlite3 command line needs
// for the same rows as JSON.
//
//	go test -run - -bench Export -count 5 ./cmd/mqttetl
func BenchmarkExport(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.db")
	a, err := archive.Open(path, "00112233445566aa")
	if err != nil {
		b.Fatal(err)
	}
	const rows = 500_000
	recs := make([]mqttetl.Record, 0, rows)
	for i := range rows {
		recs = append(recs, mqttetl.Record{Seq: mqttetl.Seq(i + 1), Time: 1_700_000_000e9 + int64(i)*1e5, Source: "plant",
			Message: mqttetl.Message{Topic: fmt.Appendf(nil, "factory/line%d/temperature", i%100), Payload: fmt.Appendf(nil, `{"value":%d,"unit":"C","pad":"%0100d"}`, i, i)}})
	}
	if err := errors.Join(a.Append(recs), a.Commit(), a.Close()); err != nil {
		b.Fatal(err)
	}
	b.Run("by=sqlite3", func(b *testing.B) {
		for b.Loop() {
			if err := osexec.Command("sqlite3", "-json", path, "select * from msg").Run(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
	})
	b.Run("by=export", func(b *testing.B) {
		for b.Loop() {
			if code := exec(b.Context(), []string{"export", "--archive", path}, nil, io.Discard, io.Discard); code != 0 {
				b.Fatal(code)
			}
		}
		b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
	})
}
