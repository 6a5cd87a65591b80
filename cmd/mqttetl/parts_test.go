package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestJournalHasPrioritiesAndNoTime(t *testing.T) {
	var b bytes.Buffer
	l := slog.New(newJournal(&b, &slog.HandlerOptions{Level: slog.LevelDebug})).With("part", "log")
	l.Debug("a")
	l.Info("two\nlines", "level", 7)
	l.WithGroup("g").Warn("c", "time", "x")
	l.Error("d")
	want := "<7>msg=a part=log\n<6>msg=\"two\\nlines\" part=log\n<4>msg=c part=log g.time=x\n<3>msg=d part=log\n"
	want = strings.Replace(want, "part=log\n<4>", "part=log level=7\n<4>", 1)
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestLogFormats(t *testing.T) {
	write := func(l logFlags) string {
		var b bytes.Buffer
		l.logger(&b).Info("hello")
		l.logger(&b).Debug("hidden")
		return b.String()
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(write(logFlags{format: "json"})), &line); err != nil || line["msg"] != "hello" {
		t.Errorf("json: %v, %v", line, err)
	}
	if got := write(logFlags{format: "journal"}); got != "<6>msg=hello\n" {
		t.Errorf("journal: %q", got)
	}
	if got := write(logFlags{}); !strings.HasPrefix(got, "time=") {
		t.Errorf("text: %q", got)
	}
	if got := write(logFlags{level: slog.LevelWarn}); got != "" {
		t.Errorf("warn: %q", got)
	}
}

func TestTheJournalIsTheStreamThatSystemdNames(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	name := strconv.FormatUint(st.Dev, 10) + ":" + strconv.FormatUint(st.Ino, 10)
	if !isJournal(w, name) || isJournal(w, name+"0") || isJournal(w, "") || isJournal(&bytes.Buffer{}, name) {
		t.Errorf("isJournal is wrong about %s", name)
	}
}

func TestQuantile(t *testing.T) {
	h := []bucket{{1, 10}, {2, 90}, {4, 100}, {math.Inf(1), 100}}
	for q, want := range map[float64]float64{0.5: 1.5, 0.05: 0.5, 0.99: 3.8, 1: 4} {
		if got := quantile(h, q); math.Abs(got-want) > 1e-9 {
			t.Errorf("p%v: %v, want %v", q*100, got, want)
		}
	}
	if got := quantile([]bucket{{1, 0}, {math.Inf(1), 3}}, 0.5); got != 1 {
		t.Errorf("beyond the last bound: %v", got)
	}
	if !math.IsNaN(quantile(since(h, h), 0.5)) || !math.IsNaN(quantile(nil, 0.5)) {
		t.Error("a quantile of nothing")
	}
	if got := since(h, []bucket{{1, 10}, {2, 10}, {4, 10}, {math.Inf(1), 10}}); got[1].count != 80 || got[3].count != 90 {
		t.Errorf("since: %v", got)
	}
}

func TestAccount(t *testing.T) {
	good := account{3, 3, holdings{3, 3}, 0}
	if err := good.err(); err != nil || good.String() != "published 3 = acknowledged 3 = archived 3 = forwarded 3" {
		t.Errorf("%v: %v", good, err)
	}
	for _, bad := range []account{{4, 3, holdings{3, 3}, 0}, {3, 2, holdings{3, 3}, 0}, {3, 3, holdings{2, 3}, 1}, {3, 3, holdings{3, 4}, 1}} {
		if exitCode(bad.err()) != exitFailed || !strings.Contains(bad.String(), "≠") {
			t.Errorf("%v balances", bad)
		}
	}
}

func TestErrorsAreOneLineAndAHint(t *testing.T) {
	var b bytes.Buffer
	printError(&b, errors.Join(errors.New("a"), errors.New("b")))
	if b.String() != "mqttetl: a; b\n" {
		t.Errorf("%q", b.String())
	}
}
