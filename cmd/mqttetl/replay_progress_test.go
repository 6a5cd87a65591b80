package main

import (
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/replay"
)

// A pause is told, and the rate is that of the time in which was played.
func TestReplayProgressWhilePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &replayRun{player: replay.NewPlayer(replay.Config{}), plan: replay.Plan{Selection: mqttetl.Selection{To: 100}}}
		time.Sleep(2 * time.Second)
		r.player.Confirmed(20, 20)
		r.player.Toggle()
		time.Sleep(time.Hour)
		if text := r.text(time.Hour); !strings.HasPrefix(text, "paused") || !strings.HasSuffix(text, " 10/s") {
			t.Errorf("paused for an hour: %s", text)
		}
		r.player.Toggle()
		time.Sleep(2 * time.Second)
		if text := r.text(time.Hour); strings.Contains(text, "paused") || !strings.HasSuffix(text, " 5/s") {
			t.Errorf("it goes on: %s", text)
		}
	})
}

// Percent and ETA are those of what is played, whatever of the recording it is: 60
// records, one a second, of which numbers 1 to 60 are at seconds 0 to 59.
func TestReplayProgressOfSelections(t *testing.T) {
	t.Parallel()
	const second = int64(time.Second)
	at := func(n int) point { return point{mqttetl.Seq(n), int64(n-1) * second} }
	all := bounds{last: at(60)}
	paced, until, limit := all, all, all
	paced.speed = 10
	until.until = 19 * second
	limit.limit = 10
	pacedUntil, pacedLimit := until, limit
	pacedUntil.speed, pacedLimit.speed = 10, 10
	far := point{60, -5 * second} // imported: recorded before all others
	for _, c := range []struct {
		name    string
		c       course
		elapsed time.Duration
		want    string
	}{
		{"begun", course{bounds: all, first: at(1), at: at(1), played: 1}, 0, "  0 %"},
		{"max", course{bounds: all, first: at(1), at: at(13), played: 13}, 2 * time.Second, "  20 %  ETA 8s"},
		{"max, --since or a rare topic", course{bounds: all, first: at(50), at: at(52), played: 2}, 2 * time.Second, "  20 %  ETA 8s"},
		{"max, --until", course{bounds: until, first: at(1), at: at(6), played: 6}, 5 * time.Second, "  26 %  ETA 14s"},
		{"max, --limit", course{bounds: limit, first: at(1), at: at(4), played: 4}, 2 * time.Second, "  40 %  ETA 3s"},
		{"max, the records end before the limit", course{bounds: limit, first: at(57), at: at(59), played: 3}, 2 * time.Second, "  67 %  ETA 1s"},
		{"as recorded", course{bounds: paced, first: at(1), at: at(11), played: 11}, time.Second, "  17 %  ETA 5s"},
		{"as recorded, --since", course{bounds: paced, first: at(40), at: at(40), played: 1}, 0, "  0 %  ETA 2s"},
		{"as recorded, --until", course{bounds: pacedUntil, first: at(1), at: at(11), played: 11}, time.Second, "  53 %  ETA 1s"},
		{"as recorded, --limit", course{bounds: pacedLimit, first: at(1), at: at(6), played: 6}, 500 * time.Millisecond, "  60 %  ETA 0s"},
		{"the destination is slower", course{bounds: paced, first: at(1), at: at(11), played: 11}, 10 * time.Second, "  17 %  ETA 49s"},
		{"clocks set back", course{bounds: bounds{last: far, speed: 10}, first: at(30), at: at(40), played: 11}, time.Second, "  33 %  ETA 2s"},
		{"clocks set back for a while", course{bounds: paced, first: at(30), at: point{40, 20 * second}, played: 11}, time.Second, "  33 %  ETA 2s"},
		{"the last one", course{bounds: paced, first: at(60), at: at(60), played: 1}, 0, "  100 %  ETA 0s"},
		{"resumed", course{bounds: all, first: at(51), at: at(52), before: 50, played: 1}, time.Second, "  86 %  ETA 8s"},
		{"resumed, nothing confirmed", course{bounds: all, first: at(51), at: at(52), before: 50}, time.Second, "  ETA 8s"},
		{"resumed, --limit", course{bounds: limit, first: at(6), at: at(6), before: 5, played: 1}, time.Second, "  60 %  ETA 4s"},
	} {
		if got := c.c.percent() + new(countdown).text(c.c, c.elapsed); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	var down countdown
	silence := course{bounds: paced, first: at(1), at: at(2), played: 2}
	if got := down.text(silence, 100*time.Millisecond) + down.text(silence, 3*time.Second); got != "  ETA 6s  ETA 3s" {
		t.Errorf("in a silence: %q", got)
	}
}

// The bounds are those of the archive and of what the flags choose of it.
func TestReplayProgressOnATerminal(t *testing.T) {
	t.Parallel()
	path := archiveOf(t, minute())
	for flags, want := range map[string]string{
		"--since 2023-11-14T22:14:10Z --speed 4": `\b[1-9]?\d %.* 22:14:1\d  ETA [12]s`,
		"--until 2023-11-14T22:13:40Z --speed 8": `\b[1-9]?\d %.*  ETA [123]s`,
		"--limit 500 --speed 4":                  `\b[1-9]?\d %.*  ETA [123]s`,
		"--seq 2901.. --rate 50":                 `\b[1-9]?\d %.*  ETA [123]s`,
		"--seq 2001..9999 --rate 1000":           `\b[1-4]\d %.*  ETA 1s`,
	} {
		x := newTerminal(t)
		p := prepare(t, []string{"TZ=UTC"}, append([]string{"replay", "--to", "-", "--archive", path}, strings.Fields(flags)...)...)
		p.Stdout = io.Discard
		x.start(p.Cmd)
		x.await(`\d messages`)
		if line := x.await(`ETA \S+s`); !regexp.MustCompile(want).MatchString(line) {
			t.Errorf("%s: %q, want %s", flags, line, want)
		}
		x.press("q")
	}
}

// Nothing but the records is on a terminal that they go to.
func TestReplayToATerminalShowsNoProgress(t *testing.T) {
	t.Parallel()
	path, x := archiveOf(t, minute()), newTerminal(t)
	p := prepare(t, nil, "replay", "--to", "-", "--archive", path, "--speed", "40")
	x.start(p.Cmd)
	if all := x.await("selected 3001 ="); strings.Contains(all, "\x1b") || strings.Count(all, "\n") != 3001 {
		t.Errorf("%d lines, %q", strings.Count(all, "\n"), all[:min(len(all), 2000)])
	}
}
