package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestLogFormats(t *testing.T) {
	t.Parallel()
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

func TestAccount(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	var b bytes.Buffer
	printError(&b, errors.Join(errors.New("a"), errors.New("b")))
	if b.String() != "mqttetl: a; b\n" {
		t.Errorf("%q", b.String())
	}
}
