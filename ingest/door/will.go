package door

import (
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/door/access"
	"github.com/mqttetl/mqttetl/internal/news"
)

// willProperty is the user property that marks a record as the will of a client; its
// value is the client id.
const willProperty = "mqttetl-will"

// A will is what is recorded when its client goes without a goodbye.
type will struct {
	mqttetl.Message
	user, clientID string
	delay          uint32 // seconds
}

// A lateWill is a will that waits until its time has come. It changes under the
// lock of the members.
type lateWill struct {
	door  *Door
	will  *will // nil: it has been sent, or never will be
	timer *time.Timer
}

// later sends a will after a number of seconds. It is called under the lock of the members.
func (d *Door) later(w *will, seconds uint32) *lateWill {
	l := &lateWill{door: d, will: w}
	if seconds == 0 || d.members.willBytes+w.size() > mostLateWills {
		l.now()
		return l
	}
	d.members.willBytes += w.size()
	l.timer = time.AfterFunc(time.Duration(seconds)*time.Second, func() {
		d.members.mu.Lock()
		defer d.members.mu.Unlock()
		l.now()
	})
	return l
}

// now sends it, if it has not been sent.
func (l *lateWill) now() {
	w := l.will
	if l.cancel(); w != nil && !l.door.members.closed {
		l.door.enqueue(w)
	}
}

// cancel drops it, if it has not been sent.
func (l *lateWill) cancel() {
	if l.timer != nil && l.will != nil {
		l.timer.Stop()
		l.door.members.willBytes -= l.will.size()
	}
	l.will = nil
}

// size is what a will takes while it waits, in bytes.
func (w *will) size() int {
	return leastWill + len(w.Topic) + len(w.Payload) + len(w.Properties) + len(w.user) + len(w.clientID)
}

// wills are those that wait to be recorded, because the log takes nothing.
type wills struct {
	mu      sync.Mutex
	queue   []*will
	bytes   int
	busy    bool // a goroutine records them
	dropped news.Seldom
}

// enqueue has a will recorded, after those before it. One beyond the bounds is dropped.
func (d *Door) enqueue(w *will) {
	q := &d.wills
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes+w.size() > mostWaitingWills {
		d.cfg.Metrics.dropped.WithLabelValues(d.cfg.Name).Inc()
		if n := q.dropped.Count(); n > 0 {
			d.logger.Warn("a will is not recorded: the log takes nothing, and too many wait for it",
				"client_id", w.clientID, "topic", string(w.Topic), "wills", n, "waiting", len(q.queue), "waiting_bytes", q.bytes)
		}
		return
	}
	q.queue = append(q.queue, w)
	q.bytes += w.size()
	if !q.busy {
		q.busy = true
		d.tasks.Go(d.sendWills)
	}
}

// sendWills records what waits, one after the other.
func (d *Door) sendWills() {
	q := &d.wills
	for {
		q.mu.Lock()
		if len(q.queue) == 0 {
			q.queue, q.busy = nil, false
			q.mu.Unlock()
			return
		}
		w := q.queue[0]
		q.queue[0], q.queue = nil, q.queue[1:]
		q.mu.Unlock()
		d.sendWill(w)
		q.mu.Lock()
		q.bytes -= w.size()
		q.mu.Unlock()
	}
}

// sendWill records a will. A log that takes nothing is waited for.
func (d *Door) sendWill(w *will) {
	if _, rights := d.rights(w.user, w.clientID); rights != nil && !rights.May(access.Write, w.Topic) {
		d.denyMessage(w.user, w.clientID, nil, w.Topic)
		return
	}
	b := &mqttetl.Batch{}
	m := w.Message
	m.Properties = mqttetl.Property{ID: mqttetl.UserProperty, Name: []byte(willProperty), Value: []byte(w.clientID)}.Append(m.Properties)
	b.Append(time.Now().UnixNano(), m)
	if !d.budget.Wait(d.ending.Done()) {
		return
	}
	d.cfg.Metrics.wills.WithLabelValues(d.cfg.Name).Inc()
	d.append(b, func() {})
}
