package ingest

import (
	"time"

	"github.com/mqttetl/mqttetl/internal/backoff"
)

// pace is how fast a link tries again.
type pace struct {
	first, most   time.Duration // after a broken or refused connection
	slow, slowest time.Duration // after a refused login or a session taken over
	stable        time.Duration // a connection that lasted so long ends an outage

	answer, answerMost time.Duration // what CONNECT waits for its CONNACK, at first and after silence
	suback             time.Duration // what SUBSCRIBE waits: SUBACK comes after the messages that the broker had queued
}

var defaultPace = pace{
	first: 100 * time.Millisecond, most: 2 * time.Second, // at a broker that comes back, within 2 s
	slow: 10 * time.Second, slowest: time.Minute,
	stable: 10 * time.Second,
	answer: 10 * time.Second, answerMost: 45 * time.Second,
	suback: time.Minute,
}

// lasting is how long a connection must last to end an outage. Behind a slow
// pace that is longer than a rival for the session may have waited.
func (p pace) lasting(slowly bool) time.Duration {
	if slowly {
		return max(p.stable, 2*p.slowest)
	}
	return p.stable
}

// delay is the time to wait before the next attempt after so many failures in
// a row.
func (p pace) delay(failures int, slowly bool) time.Duration {
	if slowly {
		return backoff.Delay(p.slow, p.slowest, failures)
	}
	return backoff.Delay(p.first, p.most, failures)
}
