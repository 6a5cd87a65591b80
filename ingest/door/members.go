package door

import (
	"container/list"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// members are the sessions of a door: those of the clients that are there, and a
// bounded number of those that are away, of which the oldest gives way.
type members struct {
	door *Door
	most int // that are away

	mu     sync.Mutex
	closed bool               // no will is sent any more
	of     map[string]*member // by key
	away   list.List          // *member, the oldest first

	clearingMu sync.Mutex
	clearing   map[string]int // by key: how often the log is about to forget its packet ids
}

// A member is one session: of a user and a client id.
type member struct {
	key     string
	session *session.Session

	client *client       // nil: away
	place  *list.Element // in away
	until  *time.Timer   // ends the session; nil: it stays
	will   *lateWill     // nil: none waits
}

// keyOf is the key of a session, and that of its packet ids in the log.
func (d *Door) keyOf(user, clientID string) string {
	return "listener\x00" + d.cfg.Name + "\x00" + user + "\x00" + clientID
}

// join gives c the session of its key. Another connection of the same client is
// ended first. kept: the session was there before.
func (m *members) join(c *client, clean bool) (kept bool) {
	var v *member
	for {
		m.mu.Lock()
		v = m.of[c.key]
		if v == nil || v.client == nil {
			break
		}
		old := v.client
		m.mu.Unlock()
		old.takeOver()
		<-old.ended
	}
	defer m.mu.Unlock()
	if v != nil {
		m.back(v)
		if clean {
			m.end(v)
			v = nil
		}
	}
	kept = v != nil
	if v == nil {
		v = &member{key: c.key, session: m.door.newSession(c)}
		m.of[c.key] = v
	}
	v.client, c.member = c, v
	c.conn = v.session.Conn(c.nc, c.v5, c)
	m.count()
	return kept
}

// back takes v from those that are away. A will that waits waits no more; whether it is sent
// is for end to say.
func (m *members) back(v *member) {
	if v.place != nil {
		m.away.Remove(v.place)
		v.place = nil
	}
	if v.until != nil {
		v.until.Stop()
		v.until = nil
	}
}

// end ends a session that has no client.
func (m *members) end(v *member) {
	m.back(v)
	if v.will != nil {
		v.will.now()
		v.will = nil
	}
	if v.session.UsedQoS2() {
		m.clear(v.key)
	}
	delete(m.of, v.key)
}

// clear has the packet ids of an ended session deleted. That is in the log's order: after
// all that the session has handed over, before anything of the next one with its key.
func (m *members) clear(key string) {
	m.cleared(key, +1)
	b := &mqttetl.Batch{Session: key, IDs: []mqttetl.IDChange{{Op: mqttetl.IDsCleared}}}
	m.door.append(b, func() { m.cleared(key, -1) })
}

func (m *members) cleared(key string, n int) {
	m.clearingMu.Lock()
	defer m.clearingMu.Unlock()
	if m.clearing[key] += n; m.clearing[key] == 0 {
		delete(m.clearing, key)
	}
}

// isClearing says that the ids which the log has, or is about to have, are of a session that has ended.
func (m *members) isClearing(key string) bool {
	m.clearingMu.Lock()
	defer m.clearingMu.Unlock()
	return m.clearing[key] > 0
}

// resumed says that the client of v has its session back, so that its will waits no more.
func (m *members) resumed(v *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v.will != nil {
		v.will.cancel()
		v.will = nil
	}
}

// part notes that the connection of c has ended, that its session stays for expiry seconds,
// and what of its will is to be done; nil: nothing.
func (m *members) part(c *client, expiry uint32, w *will) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := c.member
	v.client = nil
	if m.closed {
		return // nothing waits any more
	}
	if w != nil {
		v.will = m.door.later(w, min(w.delay, expiry))
	}
	if expiry == 0 {
		m.end(v)
	} else {
		v.place = m.away.PushBack(v)
		if expiry != wire.NeverExpires {
			v.until = time.AfterFunc(time.Duration(expiry)*time.Second, func() { m.expire(v) })
		}
		if m.away.Len() > m.most {
			m.end(m.away.Front().Value.(*member))
		}
	}
	m.count()
}

// expire ends a session whose time is over, unless its client is back.
func (m *members) expire(v *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v.client == nil && v.place != nil {
		m.end(v)
		m.count()
	}
}

func (m *members) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.of)
}

func (m *members) count() {
	m.door.cfg.Metrics.sessions.WithLabelValues(m.door.cfg.Name).Set(float64(len(m.of)))
}

// close stops all that waits.
func (m *members) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, v := range m.of {
		m.back(v)
		if v.will != nil {
			v.will.cancel()
			v.will = nil
		}
	}
}
