package ingest

import (
	"bytes"
	"math"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// sessionExpiry is the property Session Expiry Interval.
const sessionExpiry = 0x11

// past is what a link knows of its session from earlier connections, also those
// of earlier processes.
type past struct {
	confirmed bool // the broker has accepted the session before
	level     byte // protocol level of MQTT with which it did so last, 5 or 4; 0: not known
	kept      bool // it has said at least once that it had kept the session
	toldNever bool // that it never says so; of this process
	absent    int  // connects at which it had not kept it, while it never had
	reuses    bool // it has used packet ids again before their PUBACK

	told uint32 // for how long it keeps the session, in seconds, as last logged
}

// note is how the log keeps p.
func (p *past) note() []byte {
	if !p.confirmed {
		return nil
	}
	note := []byte{p.level, 0, byte(min(p.absent, 2)), 0}
	if p.kept {
		note[1] = 1
	}
	if p.reuses {
		note[3] = 1
	}
	return note
}

// readPast is the inverse of note.
func readPast(note []byte) *past {
	p := &past{confirmed: note != nil}
	if len(note) == 4 {
		p.level, p.kept, p.absent, p.reuses = note[0], note[1] == 1, int(note[2]), note[3] == 1
	}
	return p
}

// remembers returns what is known of the session. Only one goroutine at a time
// changes it: the one that reads the present connection.
func (l *link) remembers() (*past, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.past == nil {
		note, err := l.log.Note(l.sessionNote())
		if err != nil {
			return nil, err
		}
		l.past = readPast(note)
	}
	return l.past, nil
}

// sessionNote is the name of the note of the session.
func (l *link) sessionNote() string { return noteName("session", l.session.Key) }

// spoke5 says whether the broker has accepted MQTT 5 when it accepted a
// connection last.
func (l *link) spoke5() bool {
	p, err := l.remembers()
	l.mu.Lock() // the connection that has just failed may still be read
	defer l.mu.Unlock()
	return err == nil && p.level == 5
}

// begin takes what CONNACK says of the session (MQTT 5 §3.2.2.1.1). If it is
// new and not the first one, what the broker had queued in the one before is
// lost. Packet ids mean new messages either way.
func (c *conn) begin(kept bool) error {
	p, err := c.link.remembers()
	if err != nil {
		return err
	}
	before := p.note()
	if kept {
		p.kept, p.absent = true, 0
	}
	lost, err := c.data.Begin(kept, p.confirmed, p.reuses)
	if err != nil {
		return err
	}
	if lost {
		c.link.sessionLost(p)
	}
	c.link.mu.Lock()
	p.confirmed, p.level = true, 4
	if c.v5 {
		p.level = 5
	}
	c.link.mu.Unlock()
	if after := p.note(); !bytes.Equal(before, after) {
		c.data.Note(c.link.sessionNote(), after)
	}
	return nil
}

// IDsReused implements session.Control.
func (c *conn) IDsReused() {
	p, err := c.link.remembers()
	if err != nil {
		return // cannot be: it is remembered since begin
	}
	p.reuses = true
	c.data.Note(c.link.sessionNote(), p.note())
}

// sessionLost is called when the broker has no session where there was one. A
// broker that never has one is told of once, not at each connect.
func (l *link) sessionLost(p *past) {
	l.counters.sessionLost.Inc()
	if !p.kept {
		p.absent++
	}
	switch {
	case p.kept || p.absent == 1:
		l.logger.Warn("the broker has lost our session and every message it had queued for it; " +
			"give it persistence, and a session expiry that outlasts an outage")
	case !p.toldNever:
		p.toldNever = true
		l.logger.Warn("the broker has never said that it kept our session (session present); what is published while we are " +
			"not connected may be lost at each reconnect, which mqttetl_session_lost_total counts from now on without a log line")
	}
}

// sessionExpires says so if the broker keeps the session for less than asked:
// for ever (MQTT 5 §3.2.2.3.2).
func (l *link) sessionExpires(props wire.Properties) {
	p, err := l.remembers()
	if err != nil {
		return // told by begin
	}
	for v := range props.All() {
		if v.ID != sessionExpiry || v.Number == math.MaxUint32 || p.told == v.Number+1 {
			continue
		}
		p.told = v.Number + 1
		l.logger.Warn("the broker keeps our session for a limited time while we are not connected, and drops what it has queued after it",
			"limit", time.Duration(v.Number)*time.Second, "hint", "raise the broker's limit of the session expiry")
	}
}
