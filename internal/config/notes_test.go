package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A commit interval that holds up a broker with a short window is said, with the rate.
func TestNotes(t *testing.T) {
	for _, c := range []struct {
		version  string
		qos      int
		interval time.Duration
		want     string // "": nothing
	}{
		{"3.1.1", 1, DefaultCommitInterval, ""},
		{"3.1.1", 1, 500 * time.Millisecond, ""},
		{"3.1.1", 1, 0, ""},
		{"3.1.1", 1, 10 * time.Second, "with log.commit_interval 10s it sends 2 a second at most"},
		{"3.1.1", 2, 2 * time.Second, "with log.commit_interval 2s it sends 10 a second at most"},
		{"3.1.1", 0, 10 * time.Second, ""},
		{"5", 1, 10 * time.Second, ""},
	} {
		cfg := Config{Sources: []Source{{Name: "plant", Version: c.version, QoS: c.qos}}, Log: Log{CommitInterval: c.interval}}
		got := cfg.Notes()
		said := slices.ContainsFunc(got, func(s string) bool {
			return strings.HasPrefix(s, "source plant: ") && strings.Contains(s, c.want) && !strings.Contains(s, "\n")
		})
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !said) {
			t.Errorf("version %s, QoS %d, %v: %q, want %q", c.version, c.qos, c.interval, got, c.want)
		}
	}
	l := Log{CommitInterval: 50 * time.Millisecond}
	if got := l.Rate(20); got != 400 {
		t.Errorf("20 in flight, 50ms: %g a second, want 400", got)
	}
}
