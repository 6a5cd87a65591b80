package main

import (
	"cmp"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// status is the document of GET /status and of `mqttetl status`.
type status struct {
	Ready         bool           `json:"ready"`          // what /readyz says
	Version       string         `json:"version"`        // of the program that wrote the document
	UptimeSeconds int64          `json:"uptime_seconds"` // whole seconds since the start; 0 when down
	Sources       []sourceStatus `json:"sources"`        // in the order of the configuration
	Log           logStatus      `json:"log"`
	Archive       *archiveStatus `json:"archive,omitempty"` // absent: off
	NATS          *natsStatus    `json:"nats,omitempty"`    // absent: off
	Publish       *natsStatus    `json:"publish,omitempty"` // what routes publish; absent: none does

	fromFiles string // why it was read from the files, "" if it is the service's own
}

// sourceStatus counts since the start of the process.
type sourceStatus struct {
	Name         string `json:"name"`
	Connected    bool   `json:"connected"`       // to the broker, on all connections of the source
	Received     uint64 `json:"received"`        // messages
	Acknowledged uint64 `json:"acknowledged"`    // messages whose PUBACK or PUBREC was sent
	Redelivered  uint64 `json:"redelivered"`     // messages that came with DUP set
	Reconnects   uint64 `json:"reconnects"`      // connections after the first
	QoS0         uint64 `json:"qos0,omitempty"`  // of received: of QoS 0, which has no acknowledgement
	Error        string `json:"error,omitempty"` // why it is not connected or not subscribed
}

type logStatus struct {
	First       mqttetl.Seq `json:"first"` // 0 while the log is empty
	Last        mqttetl.Seq `json:"last"`
	Bytes       int64       `json:"bytes"`
	Paused      bool        `json:"paused"`                 // full: nothing is acknowledged until there is room
	FileBytes   int64       `json:"file_bytes"`             // of its file, free pages included
	PauseReason string      `json:"pause_reason,omitempty"` // why it is paused
	HeldBy      string      `json:"held_by,omitempty"`      // which processes keep free pages from being used again
}

type archiveStatus struct {
	Cursor mqttetl.Seq `json:"cursor"`          // the last record in the archive
	Lag    uint64      `json:"lag"`             // records between the cursor and the end of the log
	Error  string      `json:"error,omitempty"` // why it is not open

	WALBytes int64  `json:"wal_bytes"`         // of the file of its write-ahead log
	HeldBy   string `json:"held_by,omitempty"` // which processes may keep that from being emptied
}

type natsStatus struct {
	Cursor    mqttetl.Seq `json:"cursor"` // the last record that the stream has confirmed
	Lag       uint64      `json:"lag"`
	Connected bool        `json:"connected"`       // to a server, and the stream there can be used
	Error     string      `json:"error,omitempty"` // why records do not get there
}

// lag is the number of records behind cursor.
func lag(cursor, last mqttetl.Seq) uint64 {
	if cursor >= last {
		return 0
	}
	return uint64(last - cursor)
}

// report shows the document to people.
func (s *status) report() report {
	r := report{document: s, header: []string{"part", "name", "state", "figures"}}
	add := func(part, name, state, format string, args ...any) {
		r.rows = append(r.rows, []string{part, name, state, fmt.Sprintf(format, args...)})
	}
	unknown := s.fromFiles != ""
	if unknown {
		add("service", s.Version, "unknown", "read from the files: %s", s.fromFiles)
	} else {
		add("service", s.Version, choose(s.Ready, "ready", "not ready"), "up %v", time.Duration(s.UptimeSeconds)*time.Second)
	}
	for _, v := range s.Sources {
		if unknown {
			add("source", v.Name, "unknown", "")
			continue
		}
		add("source", v.Name, choose(v.Connected, "connected", "not connected"),
			"received %d%s, acknowledged %d, redelivered %d, reconnects %d%s", v.Received, v.ofQoS0(), v.Acknowledged, v.Redelivered, v.Reconnects, because(v.Error))
	}
	add("log", "", choose(s.Log.Paused, "paused", "open"), "records %d to %d, %s in a file of %s%s", s.Log.First, s.Log.Last,
		mqttetl.FormatSize(s.Log.Bytes), mqttetl.FormatSize(s.Log.FileBytes), because(choose(s.Log.Paused, s.Log.PauseReason, s.Log.HeldBy)))
	if a := s.Archive; a != nil {
		add("archive", "", choose(a.Lag == 0, "up to date", "behind"), "at record %d, %d to go, write-ahead log of %s%s", a.Cursor, a.Lag,
			mqttetl.FormatSize(a.WALBytes), because(cmp.Or(a.Error, a.HeldBy)))
	}
	if n := s.NATS; n != nil {
		state := choose(n.Connected, "connected", "not connected")
		add("nats", "", choose(unknown, "unknown", state), "at record %d, %d to go%s", n.Cursor, n.Lag, because(n.Error))
	}
	if n := s.Publish; n != nil {
		state := choose(n.Connected, "connected", "not connected")
		add("publish", "", choose(unknown, "unknown", state), "at record %d, %d to go%s", n.Cursor, n.Lag, because(n.Error))
	}
	return r
}

// ofQoS0 says how many of the received messages will never be acknowledged.
func (s *sourceStatus) ofQoS0() string {
	if s.QoS0 == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d with QoS 0, which has no acknowledgement)", s.QoS0)
}

// because appends a reason, if there is one.
func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func choose(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}

// stuckAfter is how long the commit loop may stand still with work before it.
// A disk can take long for a sync; a minute is beyond what one needs.
const stuckAfter = time.Minute

// pulse tells from one look at the log to the next whether its commit loop
// moves or is rightly idle: nothing to do, or paused until there is room.
type pulse struct {
	mu    sync.Mutex
	seen  progress
	since time.Time // when seen was seen first
}

// progress is what changes with every commit.
type progress struct {
	last       mqttetl.Seq
	committing time.Time
}

func (p *pulse) beats(s wal.Stats, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := s.Queued == 0 && s.CommittingSince.IsZero()
	at := progress{s.Last, s.CommittingSince}
	if idle || s.Paused || at != p.seen || p.since.IsZero() {
		p.seen, p.since = at, now
	}
	return now.Sub(p.since) < stuckAfter
}

// summary is the status in a few words, with the rate of the last interval.
func (s *status) summary(rate float64) string {
	text := strconv.FormatFloat(rate, 'f', 0, 64) + " msg/s"
	if s.Log.Paused {
		text += ", paused: log is full"
	}
	if s.Archive != nil {
		text += fmt.Sprintf(", archive %d behind", s.Archive.Lag)
	}
	if s.NATS != nil {
		text += fmt.Sprintf(", nats %d behind", s.NATS.Lag)
	}
	if s.NATS != nil && !s.NATS.Connected {
		text += ", nats not connected" + because(s.NATS.Error)
	}
	return text
}
