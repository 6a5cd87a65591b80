package door

import (
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/door/access"
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

// later sends a will after a number of seconds.
func (d *Door) later(w *will, seconds uint32) *lateWill {
	l := &lateWill{door: d, will: w}
	if seconds == 0 {
		l.now()
	} else {
		l.timer = time.AfterFunc(time.Duration(seconds)*time.Second, func() {
			d.members.mu.Lock()
			defer d.members.mu.Unlock()
			l.now()
		})
	}
	return l
}

// now sends it, if it has not been sent.
func (l *lateWill) now() {
	w := l.will
	if l.cancel(); w != nil && !l.door.members.closed {
		l.door.tasks.Go(func() { l.door.sendWill(w) })
	}
}

// cancel drops it, if it has not been sent.
func (l *lateWill) cancel() {
	l.will = nil
	if l.timer != nil {
		l.timer.Stop()
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
