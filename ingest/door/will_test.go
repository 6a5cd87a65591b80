package door

import (
	"fmt"
	"slices"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/session"
)

func willTo(topic string, size int) *will {
	return &will{Message: mqttetl.Message{Topic: []byte(topic), Payload: make([]byte, size)}, delay: 3600}
}

// TestWillsWaitForTheLog: while the log takes nothing a bounded number of wills wait, by one
// goroutine; the others are dropped and counted, and those that waited are recorded in their order.
func TestWillsWaitForTheLog(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{})
	connected(t, d, login(v311, "a")) // the door is open
	d.budget.Take(budget)
	const size, room = 1<<20 - leastWill - 4, 64
	var want []string
	for i := range room + 10 {
		topic := fmt.Sprintf("w/%02d", i)
		d.enqueue(willTo(topic, size))
		if i < room {
			want = append(want, topic)
		}
	}
	var dropped dto.Metric
	if err := d.cfg.Metrics.dropped.WithLabelValues("door").Write(&dropped); err != nil || dropped.Counter.GetValue() != 10 {
		t.Errorf("%v wills are dropped, want 10 (%v)", dropped.Counter.GetValue(), err)
	}
	d.budget.Give(budget)
	await(t, "all wills that waited", func() bool { return len(log.texts()) == room })
	var got []string
	log.mu.Lock()
	for _, r := range log.records {
		got = append(got, string(r.Topic))
	}
	log.mu.Unlock()
	if !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
	await(t, "nothing waits", func() bool { d.wills.mu.Lock(); defer d.wills.mu.Unlock(); return d.wills.bytes == 0 && !d.wills.busy })
}

// TestLateWills: wills that wait for their time have a bound, beyond which one is sent at
// once; one that waits no more makes room.
func TestLateWills(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{})
	connected(t, d, login(v311, "a"))
	later := func(topic string) *lateWill {
		d.members.mu.Lock()
		defer d.members.mu.Unlock()
		return d.later(willTo(topic, mostLateWills/2-leastWill-1), 3600)
	}
	first := later("1")
	defer func() { d.members.mu.Lock(); defer d.members.mu.Unlock(); first.cancel() }()
	second := later("2")
	later("3")
	await(t, "the third will", func() bool { log.mu.Lock(); defer log.mu.Unlock(); return len(log.records) == 1 })
	d.members.mu.Lock()
	second.cancel()
	second.cancel()
	d.members.mu.Unlock()
	fourth := later("4")
	d.members.mu.Lock()
	defer d.members.mu.Unlock()
	if fourth.will == nil || len(log.texts()) != 1 {
		t.Errorf("the fourth will does not wait")
	}
	fourth.cancel()
	if d.members.willBytes != first.will.size() {
		t.Errorf("%d bytes wait, want %d", d.members.willBytes, first.will.size())
	}
}

// TestSessionsAwayOfUsers: a user with many client ids ends its own sessions, not those of
// others; a single user may have all.
func TestSessionsAwayOfUsers(t *testing.T) {
	d := open(t, newFakeLog(), Config{MaxConnections: 2}) // 8 away, 2 of one user
	away := func(user, id string) {
		v := &member{key: d.keyOf(user, id), user: user, session: session.New(session.Config{})}
		d.members.mu.Lock()
		d.members.of[v.key] = v
		d.members.mu.Unlock()
		d.members.part(&client{door: d, member: v}, 3600, nil)
	}
	has := func(user, id string) bool {
		d.members.mu.Lock()
		defer d.members.mu.Unlock()
		return d.members.of[d.keyOf(user, id)] != nil
	}
	for i := range 10 {
		away("ann", fmt.Sprint(i))
	}
	if n := d.Stats().Sessions; n != 8 || has("ann", "1") || !has("ann", "2") {
		t.Errorf("a single user has %d sessions, want the last 8", n)
	}
	away("bob", "b")
	if !has("bob", "b") || has("ann", "2") {
		t.Error("a second user finds no place")
	}
	for i := range 20 {
		away("ann", fmt.Sprint("x", i))
	}
	if !has("bob", "b") || !has("ann", "x19") {
		t.Error("a user with invented ids has ended the session of another")
	}
	for i := range 20 {
		away("eve", fmt.Sprint(i))
	}
	if !has("bob", "b") || !has("eve", "19") || has("eve", "17") || d.Stats().Sessions != 8 {
		t.Errorf("%d sessions, of bob %v, of eve %v %v", d.Stats().Sessions, has("bob", "b"), has("eve", "19"), has("eve", "17"))
	}
}
