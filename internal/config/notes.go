package config

import (
	"fmt"
	"time"
)

// window311 is how many messages brokers have in flight to a client of MQTT 3.1.1, which cannot
// say how many it takes.
const window311 = 20

// noticeable is the commit interval above which such a broker is noticeably held up. It is
// hurried for once it has waited three times, and that is forgotten after five seconds.
const noticeable = 500 * time.Millisecond

// Rate is how many messages a second a broker with so many in flight sends at the most
// before it is seen to wait for us: one window an interval. 0: as many as it can.
func (l *Log) Rate(window int) float64 {
	if l.CommitInterval == 0 {
		return 0
	}
	return float64(window) / l.CommitInterval.Seconds()
}

// Notes are what is possible and probably not meant, a line each.
func (c *Config) Notes() (lines []string) {
	for i := range c.Sources {
		s := &c.Sources[i]
		if slow := c.Log.SlowWindow(); s.Version == "3.1.1" && s.QoS > 0 && slow != "" {
			lines = append(lines, fmt.Sprintf("source %s: %s", s.Name, slow))
		}
	}
	return lines
}

// SlowWindow says how the interval holds up a broker of MQTT 3.1.1; "" if it hardly does.
func (l *Log) SlowWindow() string {
	if l.CommitInterval <= noticeable {
		return ""
	}
	return fmt.Sprintf("a broker of MQTT 3.1.1 has %d messages in flight; with log.commit_interval %v it sends %.3g a second at most, until it has waited three times, which is forgotten after 5 s: %v or less does not hold it up",
		window311, l.CommitInterval, l.Rate(window311), noticeable)
}
