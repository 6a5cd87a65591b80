package brokers

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/client"
)

// keepalive of the sources, short so that a test can wait for several.
const keepalive = 2 * time.Second

// idleTime is how long connections are left alone: here for several intervals of
// keepalive; TestIdleMinute does so for a minute.
const idleTime = 4 * keepalive

// row is one row of the table in docs/operate.md.
type row struct {
	name    string
	version string // of MQTT
	share   bool   // over a shared subscription
	start   func(t *testing.T) broker

	// What a broker does not do as the specification says.
	noDup         bool // redelivers without DUP
	dollarInHash  bool // "#" matches topics that begin with $
	noEmptyLevel  bool // "+" does not match an empty level
	retainedExact bool // no retained messages for a filter with wildcards
}

// check runs steps against every row at the same time, as far as -parallel allows.
func check(t *testing.T, rows []row, keepalive time.Duration, steps func(*world)) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			steps(newWorld(t, r, r.start(t), keepalive))
		})
	}
}

// suite is the whole of what a row of the table promises.
func suite(w *world) {
	w.publish(true, "e/retained/x", "kept by wildcard")
	w.publish(true, "kept", "kept by name")
	w.start()
	w.retained()
	w.wildcards()
	w.will()
	w.killed()
	w.redelivered()
	w.idle(idleTime)
	w.takenOver()
}

// retained: a retained message of the time before arrives with its flag, except
// over a shared subscription, which MQTT excludes (MQTT 5 §4.8.2).
func (w *world) retained() {
	w.t.Helper()
	source, want := "some", []string{"kept by name", "kept by wildcard"}
	if w.share {
		source = "all"
	}
	if w.retainedExact {
		want = want[:1]
	}
	for _, payload := range want {
		w.eventually("the retained message "+payload, func() bool { return w.has(source, payload) > 0 })
	}
	for _, r := range w.rows(source) {
		if strings.HasPrefix(r.payload, "kept") && !mqttetl.Flags(r.flags).Retain() {
			w.t.Errorf("the retained message %q has no RETAIN flag", r.payload)
		}
	}
}

// wildcards: + is one level, # any number and the parent, and neither matches a
// topic that begins with $ (MQTT 5 §4.7).
func (w *world) wildcards() {
	w.t.Helper()
	for topic, within := range map[string]bool{
		"e/1/x": true, "e//x": !w.noEmptyLevel, "e/1/2/x": false, "e/x": false,
		"d": true, "d/1/2/3": true, "dd": false, "other": false,
	} {
		w.publish(false, topic, "at "+topic)
		w.eventually(topic+" by #", func() bool { return w.has("all", "at "+topic) > 0 })
		if within {
			w.eventually(topic, func() bool { return w.has("some", "at "+topic) > 0 })
		} else if w.has("some", "at "+topic) > 0 {
			w.t.Errorf("%s is within the filters", topic)
		}
	}
	// A broker may end the connection of a client that publishes there.
	if c, err := w.connect(client.Options{ClientID: "dollar", CleanStart: true}); err == nil {
		_, _ = c.Publish(&client.Message{Topic: "$mine/x", Payload: []byte("dollar")})
		c.Disconnect(0)
	}
	w.publish(false, "e/after/x", "after the dollar")
	w.eventually("the message behind", func() bool { return w.has("all", "after the dollar") > 0 })
	for _, r := range w.rows("all") {
		if strings.HasPrefix(r.topic, "$") && !w.dollarInHash {
			w.t.Errorf("# has matched %s", r.topic)
		}
	}
}

// will: the last will of a client that is lost arrives.
func (w *world) will() {
	w.t.Helper()
	c, err := w.connect(client.Options{ClientID: "mortal", CleanStart: true,
		Will: &client.Message{Topic: "e/will/x", Payload: []byte("farewell"), QoS: 1}})
	if err != nil {
		w.t.Fatal(err)
	}
	c.Close()
	w.eventually("the will", func() bool { return w.has("some", "farewell") == 1 })
}

// killed: every message acknowledged to its publisher arrives, through kill -9.
func (w *world) killed() {
	w.t.Helper()
	const rounds, size = 6, 100
	for round := range rounds {
		payloads := make([]string, size)
		for i := range payloads {
			payloads[i] = fmt.Sprintf("killed %d", round*size+i)
		}
		if round%2 == 1 {
			w.publish(false, "d/killed", payloads[:size/2]...) // some of them are on their way
			w.Kill()
			w.publish(false, "d/killed", payloads[size/2:]...)
			w.start()
		} else {
			w.publish(false, "d/killed", payloads...)
		}
		w.eventually(fmt.Sprintf("%d messages", (round+1)*size), func() bool { return w.distinct("killed ") == (round+1)*size })
	}
}

// distinct counts the different payloads with a prefix.
func (w *world) distinct(prefix string) int {
	seen := map[string]bool{}
	for _, r := range w.rows("some") {
		if strings.HasPrefix(r.payload, prefix) {
			seen[r.payload] = true
		}
	}
	return len(seen)
}

// redelivered: what was delivered to a process that could not acknowledge it
// comes again, with DUP.
func (w *world) redelivered() {
	w.t.Helper()
	w.Signal(syscall.SIGSTOP)
	w.publish(false, "d/again", "again 0", "again 1", "again 2")
	// Behind these, the broker has sent the others to the stopped process too.
	w.publish(false, "d/again", "again 3")
	w.Kill()
	w.start()
	w.eventually("the redelivered messages", func() bool { return w.distinct("again ") == 4 })
	dups := 0
	for _, r := range w.rows("some") {
		if strings.HasPrefix(r.payload, "again ") && mqttetl.Flags(r.flags).Dup() {
			dups++
		}
	}
	if dups == 0 && !w.noDup {
		w.t.Error("no redelivered message has DUP set")
	}
}

// idle: a connection without messages outlives several keepalive intervals.
func (w *world) idle(d time.Duration) {
	w.t.Helper()
	before, _ := w.source()
	<-time.After(d)
	if after, _ := w.source(); after != before || !w.ready() {
		w.t.Errorf("the idle connection was lost: %d reconnects, ready %v", after-before, w.ready())
	}
	w.publish(false, "d/idle", "awake")
	w.eventually("a message after the idle time", func() bool { return w.has("some", "awake") == 1 })
}

// takenOver: against a second client with the same id, the source says what is
// wrong, does not storm the broker, and is there again afterwards.
func (w *world) takenOver() {
	w.t.Helper()
	before, _ := w.source()
	connects := 0
	remedy := func() bool {
		return strings.Contains(w.Output(), "its own client_id") || strings.Contains(w.Output(), "each must have its own")
	}
	began := time.Now()
	for !remedy() {
		if time.Since(began) > patience {
			w.t.Fatal("nobody says that two clients have one id")
		}
		c, err := w.connect(client.Options{ClientID: "etl", CleanStart: false})
		if err != nil {
			continue // such as one that the source's own connect has cut short
		}
		connects++
		select {
		case <-c.Done(): // the source has taken it back
		case <-time.After(patience):
			w.t.Fatal("the source does not come back")
		}
		c.Close()
	}
	w.eventually("ready again", w.ready)
	after, _ := w.source()
	if after-before > connects+1 || float64(after-before) > 20+time.Since(began).Seconds() {
		w.t.Errorf("%d reconnects in %v for %d takeovers", after-before, time.Since(began), connects)
	}
	w.publish(false, "d/peace", "peace")
	w.eventually("a message after the fight", func() bool { return w.has("some", "peace") > 0 })
}
