package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/pipeline"
)

// shown is the document of GET /status as `mqttetl status` shows it.
type shown struct {
	pipeline.Status
	fromFiles string // why it was read from the files, "" if it is the service's own
}

// report shows the document to people.
func (s *shown) report() report {
	r := report{document: &s.Status, header: []string{"part", "name", "state", "figures"}}
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
			"received %d%s, acknowledged %d, redelivered %d, reconnects %d%s", v.Received, ofQoS0(v.QoS0), v.Acknowledged, v.Redelivered, v.Reconnects, because(v.Error))
	}
	for _, v := range s.Listeners {
		if unknown {
			add("listener", v.Name, "unknown", "")
			continue
		}
		add("listener", v.Name, "listening", "on %s, %d clients, %d sessions, received %d%s, acknowledged %d, redelivered %d",
			v.Address, v.Clients, v.Sessions, v.Received, ofQoS0(v.QoS0), v.Acknowledged, v.Redelivered)
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
func ofQoS0(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d with QoS 0, which has no acknowledgement)", n)
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
