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
// bounded number whose clients are away; when there are more, the oldest of these ends.
type members struct {
	door *Door
	most int // that are away

	mu        sync.Mutex
	closed    bool                  // no will is sent any more
	of        map[string]*member    // by key
	away      list.List             // *member, the oldest first
	users     map[string]*list.List // the same by user
	heavy     map[string]bool       // users who have more than their part of them
	willBytes int                   // of wills that wait for their time

	clearingMu sync.Mutex
	clearing   map[string]int // by key: how often the log is about to forget its packet ids
}

// A member is one session: of a user and a client id.
type member struct {
	key     string
	session *session.Session

	client *client // nil: away
	user   string
	place  *list.Element // in away
	own    *list.Element // in those of the user
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
		v = &member{key: c.key, user: c.user, session: m.door.newSession(c)}
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
		m.comeBack(v)
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
		m.goAway(v)
		if expiry != wire.NeverExpires {
			v.until = time.AfterFunc(time.Duration(expiry)*time.Second, func() { m.expire(v) })
		}
		if old := m.tooMany(v.user); old != nil {
			m.end(old)
		}
	}
	m.count()
}

// goAway puts v among those that are away.
func (m *members) goAway(v *member) {
	own := m.users[v.user]
	if own == nil {
		own = list.New()
		m.users[v.user] = own
	}
	v.place, v.own = m.away.PushBack(v), own.PushBack(v)
	m.weigh(v.user, own)
}

// comeBack takes it from there.
func (m *members) comeBack(v *member) {
	own := m.users[v.user]
	m.away.Remove(v.place)
	own.Remove(v.own)
	v.place, v.own = nil, nil
	m.weigh(v.user, own)
}

func (m *members) weigh(user string, own *list.List) {
	if own.Len() > m.most/partOfUser {
		m.heavy[user] = true
	} else {
		delete(m.heavy, user)
	}
	if own.Len() == 0 {
		delete(m.users, user)
	}
}

// tooMany is the session that has to end for the last one of user that is away; nil: none.
// One user, who may invent client ids, takes the places of the others no further than its part.
func (m *members) tooMany(user string) *member {
	if len(m.users) > 1 && m.heavy[user] {
		return m.users[user].Front().Value.(*member)
	}
	if m.away.Len() <= m.most {
		return nil
	}
	if len(m.users) > 1 {
		for other := range m.heavy { // three at most
			return m.users[other].Front().Value.(*member)
		}
	}
	return m.away.Front().Value.(*member)
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
