package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
)

// A selection of nothing is told beside every form of output.
func TestQueryOfNothing(t *testing.T) {
	t.Parallel()
	path := archiveOf(t, minute()[:3])
	for _, flags := range []string{"", "-o csv", "-o json", "-o table", "--last 0", "--by topic", "--by hour -o table", "--by source -o json", "--count"} {
		args := append(strings.Fields("query --topic none --archive"), path)
		if out, said := mqttetlOut(t, exitOK, append(args, strings.Fields(flags)...)...); said != noRecords+"\n" {
			t.Errorf("%s: %q, %q", flags, out, said)
		}
		args[2] = "#"
		if _, said := mqttetlOut(t, exitOK, append(args, strings.Fields(flags)...)...); said != "" {
			t.Errorf("%s of something: %q", flags, said)
		}
	}
}

// All times of query are in UTC, and say so.
func TestQueryTimesAreUTC(t *testing.T) {
	t.Parallel()
	path := archiveOf(t, minute()[:1])
	for flags, want := range map[string]string{
		"-o table":           " 2023-11-14T22:13:20.000Z ",
		"-o csv":             ",2023-11-14T22:13:20.000000000Z,",
		"--by topic":         `"first":"2023-11-14T22:13:20Z"`,
		"--by hour -o table": " 2023-11-14T22:00:00Z ",
	} {
		p := prepare(t, []string{"TZ=Asia/Karachi"}, append([]string{"query", "--archive", path}, strings.Fields(flags)...)...)
		var out bytes.Buffer
		p.Stdout = &out
		if err := p.Run(); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s, %v", flags, out.String(), err)
		}
	}
}

// The rate above the sparkline has a unit in which it is not 0.
func TestQueryRates(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{1: "1/h", 59: "59/h", 60: "1.0/min", 179: "3.0/min", 3599: "60.0/min", 3600: "1.0/s", 5400: "1.5/s"} {
		line := sparkline([]*group{{Name: "2026-01-01T00:00:00Z", Count: n}})
		if _, rate, _ := strings.Cut(line, "  up to "); rate != want {
			t.Errorf("%d an hour: %q, want %q", n, rate, want)
		}
	}
}

// SQL asks the archive, so it needs none of the brokers' secrets.
func TestQueryNeedsNoSecret(t *testing.T) {
	t.Parallel()
	dir, path := t.TempDir(), archiveOf(t, minute()[:2])
	conf := filepath.Join(dir, "c.yaml")
	text := "sources: [{name: a, url: \"mqtt://127.0.0.1:1\", username: u, password: \"${MQTT_PASSWORD_OF_NOBODY}\", subscribe: [\"#\"]}]\n" +
		"log: {dir: " + dir + "/log}\narchive: {path: " + path + "}\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := mqttetlOut(t, exitOK, "query", "-c", conf, "--sql", "select count(*) n from msg"); out != `{"n":2}`+"\n" {
		t.Error(out)
	}
}

// What the format does not fit is told, and what follows is printed.
func TestTailGoesOnBehindWhatItCannotPrint(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	a, err := archive.Open(path, "00112233445566aa")
	if err != nil {
		t.Fatal(err)
	}
	var recs []mqttetl.Record
	for i, payload := range []string{"1", "no JSON", "3"} {
		recs = append(recs, mqttetl.Record{Seq: mqttetl.Seq(i + 1), Source: "x", Message: mqttetl.Message{Topic: []byte("t"), Payload: []byte(payload)}})
	}
	if err := errors.Join(a.Append(recs), a.Commit(), a.Close()); err != nil {
		t.Fatal(err)
	}
	out, said := mqttetlOut(t, exitOK, "tail", "--archive", path, "--last", "3", "-C", "3", "-F", "%J")
	if strings.Count(out, "\n") != 3 || !strings.Contains(out, `"payload":1}`) || !strings.Contains(out, `"payload":3}`) {
		t.Errorf("%q", out)
	}
	if !strings.HasPrefix(said, "mqttetl: record 2: ") || strings.Count(said, "\n") != 1 {
		t.Errorf("%q", said)
	}
}
