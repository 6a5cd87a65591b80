package session

import (
	"testing"
	"time"
)

// A sender of the table below: what it does is told from what it is acknowledged.
type sender struct {
	window int           // packets that it has in flight at most, 0: any number
	every  time.Duration // between two packets, 0: all that the window lets it send at once
	trip   time.Duration // from an acknowledgement to the packet that it makes room for
}

// rate lets s send for d to a log that commits when hurried, and else at an interval,
// and returns the packets a second and the commits a second.
func (s sender) rate(most int, interval, d time.Duration) (packets, commits float64) {
	const step = 100 * time.Microsecond
	h := hurry{most: most}
	next, begun := time.Duration(0), -interval
	free, waits := time.Duration(0), 0 // when an acknowledgement has reached it
	sent, made := 0, 0
	for now := step; now < d; now += step {
		if room := s.window == 0 || waits < s.window; room && now >= next && now >= free {
			n := 1
			if s.every == 0 {
				n = s.window - waits
			}
			waits += n
			sent += n
			next = max(next+s.every, now-s.every)
			h.reads(n, int64(now))
		}
		if waits > 0 && (h.held() || now-begun >= interval) {
			begun = now
			made++
			h.acks(waits, int64(now))
			waits, free = 0, now+s.trip
		}
	}
	return float64(sent) / d.Seconds(), float64(made) / d.Seconds()
}

func TestHurry(t *testing.T) {
	const ms = time.Millisecond
	for name, tt := range map[string]struct {
		sender
		most    int
		packets float64 // a second, at least
		commits float64 // a second, at most; 0: any number
	}{
		"a trickle of 1,000 a second":           {sender: sender{every: ms}, most: 450, packets: 990, commits: 21},
		"a trickle of 100 a second":             {sender: sender{every: 10 * ms}, most: 450, packets: 99, commits: 21},
		"ten a second":                          {sender: sender{every: 100 * ms}, most: 450, packets: 9.9, commits: 10.1},
		"one in flight, once a second":          {sender: sender{window: 1, every: time.Second, trip: ms}, most: 450, packets: 0.9, commits: 1.1},
		"one in flight, 30 a second":            {sender: sender{window: 1, every: 33 * ms, trip: ms}, most: 450, packets: 19, commits: 31},
		"a backlog, one in flight":              {sender: sender{window: 1, trip: ms}, most: 450, packets: 900},
		"a backlog, 20 in flight":               {sender: sender{window: 20, trip: ms}, most: 32767, packets: 18000},
		"a backlog, 20 in flight, far away":     {sender: sender{window: 20, trip: 15 * ms}, most: 32767, packets: 1200},
		"a backlog, 20 in flight, 80 ms away":   {sender: sender{window: 20, trip: 80 * ms}, most: 32767, packets: 240},
		"a backlog within our Receive Maximum":  {sender: sender{window: 900, trip: ms}, most: 450, packets: 800_000},
		"1,000 a second of a window of 20":      {sender: sender{window: 20, every: ms, trip: ms}, most: 450, packets: 950, commits: 80},
		"10,000 a second, Receive Maximum 900":  {sender: sender{window: 900, every: ms / 10, trip: ms}, most: 450, packets: 9700, commits: 25},
		"10,000 a second of a window of 20":     {sender: sender{window: 20, every: ms / 10, trip: ms / 10}, most: 450, packets: 8000},
		"a window of 20 that is hardly reached": {sender: sender{window: 20, every: 4 * ms, trip: ms}, most: 450, packets: 245, commits: 22},
	} {
		packets, commits := tt.rate(tt.most, 50*ms, 20*time.Second)
		if packets < tt.packets || tt.commits > 0 && commits > tt.commits {
			t.Errorf("%s: %.0f packets and %.1f commits a second, want at least %.0f and at most %.1f", name, packets, commits, tt.packets, tt.commits)
		} else {
			t.Logf("%s: %.0f packets and %.1f commits a second", name, packets, commits)
		}
	}
}

// Sustained says what a sender with a backlog gets through a window.
func TestSustained(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		window         int
		trip, interval time.Duration
	}{
		{20, ms, 0}, {20, ms, 50 * ms}, {20, ms, 200 * ms}, {20, ms, time.Second}, {20, ms, 10 * time.Second},
		{20, 15 * ms, time.Second}, {20, 150 * ms, 200 * ms}, {1, ms, time.Second}, {100, ms, 500 * ms},
	} {
		s := sender{window: c.window, trip: c.trip}
		full, _ := s.rate(32767, 0, 10*time.Second)
		real, _ := s.rate(32767, c.interval, 700*time.Second)
		got := Sustained(full, c.window, c.trip, c.interval)
		if got > real*1.1 || got < real*0.85 {
			t.Errorf("window %d, interval %v, round trip %v: %.0f packets a second, want %.0f of %.0f", c.window, c.interval, c.trip, got, real, full)
		}
	}
}
