package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestRates measures a second of messages with mqttetl and with all that it is compared with.
func TestRates(t *testing.T) {
	b, err := open(t.Context(), t.Output(), t.TempDir(), "", 0.001)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.cell = time.Second
	r, err := b.runGroups(regexp.MustCompile(`^rates/1000$`), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range contenders {
		m := r[ratePoint(c.subject, 1000)]
		if len(m) != 1 || m[0].Messages == 0 || m[0].CPU <= 0 || m[0].Written < 150 {
			t.Errorf("%s: %+v", c.subject, m)
		}
	}
	ours := r[ratePoint(rateOurs, 1000)][0]
	if perCommit := float64(ours.Messages) / ours.Commits; ours.Messages != 1000 || perCommit < 10 || ours.Ack.P99 < time.Millisecond {
		t.Errorf("%d messages of 1000, %.1f a commit, PUBACK p99 %v", ours.Messages, perCommit, ours.Ack.P99)
	}
	var text bytes.Buffer
	(&report{w: &text, r: r, rounds: 1, cell: b.cell}).write()
	for _, want := range []string{rateMarks.begin, rateMarks.end, "| 1,000 | " + string(rateScript) + " |", "| bytes at 1,000 messages/s: the Python script / mqttetl |"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
}

// What cannot keep up has no bytes a day.
func TestGigabytes(t *testing.T) {
	r := results{}
	at := ratePoint(rateOurs, 100)
	r.add(at, measurement{Rate: 100, Written: 10_000})
	slow := ratePoint(rateScript, 100)
	r.add(slow, measurement{Rate: 90, Written: 10_000})
	p := report{r: r}
	if got := p.gigabytes(at); got != "86.4" {
		t.Errorf("1 MB a second is %s GB a day, want 86.4", got)
	}
	if got := p.gigabytes(slow); got != "falls behind" {
		t.Errorf("90 of 100 stored: %s", got)
	}
}
