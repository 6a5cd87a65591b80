package e2e

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/internal/news"
	"github.com/mqttetl/mqttetl/test/service"
)

// logLine is a line of the service's log.
var logLine = regexp.MustCompile(`(?m)level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)(.*)$`)

// lines counts the lines of the log by their text, and returns the last figure of attempts.
func (w *world) lines() (of map[string]int, attempts int) {
	of = map[string]int{}
	for _, m := range logLine.FindAllStringSubmatch(w.Output(), -1) {
		of[m[2]]++
		if n := regexp.MustCompile(`attempts=(\d+)`).FindStringSubmatch(m[3]); n != nil && m[2] == notForwarding {
			attempts, _ = strconv.Atoi(n[1])
		}
	}
	return of, attempts
}

const (
	notForwarding = `"not forwarding to NATS, trying again"`
	again         = `"forwarding to NATS again"`
	full          = `"log is full: nothing is acknowledged until there is room"`
	deadLetter    = `"a record cannot be forwarded: dead letter"`
)

// TestLogIsNotFlooded: whatever a NATS server refuses, and however often it changes
// its mind, the log says each thing once, and then once a minute how often it was.
func TestLogIsNotFlooded(t *testing.T) {
	t.Parallel()
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	const small = 1 << 10
	cases := []struct {
		name     string
		nats     string
		size     int // of a message
		stranger func(context.Context, jetstream.JetStream) error
		must     map[string]int // so many lines of these texts, and not many more; 0: none
		attempts int            // that the last line "not forwarding" counts at least
		world    *world
	}{
		{
			name: "publishing is denied", size: small,
			nats: "authorization { users: [{user: etl, password: x, permissions: {publish: {deny: \"mqtt.>\"}}}, {user: other, password: x}] }\nno_auth_user: etl",
			must: map[string]int{notForwarding: 2, again: 0}, attempts: 20,
		},
		{
			name: "the stream, and so the log, are full and free in turn", size: 8 << 10,
			stranger: fullAndFree,
			must:     map[string]int{full: 2},
		},
		{
			name: "every message is too large", size: 2 * small, nats: fmt.Sprintf("max_payload: %d", small),
			must: map[string]int{deadLetter: 2, notForwarding: 0},
		},
	}
	for i := range cases {
		c := &cases[i]
		s := service.Settings{QoS: 1, MaxSize: "1MiB"}
		if c.stranger == nil {
			s.MaxSize = ""
		}
		w := newWorldOn(t, bin, c.nats, s)
		c.world = w
		w.must(w.Start())
		p := &Publisher{Broker: w.broker.URL, Run: "flood", QoS: 1, Topics: 3, Workers: 8, Size: c.size, Rate: 200}
		t.Cleanup(w.publish(p))
		if c.stranger == nil {
			continue
		}
		t.Cleanup(w.visit(c.stranger))
	}
	// Two lines of the same are a minute apart; the test waits for the second of them.
	deadline, cancel := context.WithTimeout(t.Context(), news.Every+30*time.Second)
	defer cancel()
	for _, c := range cases {
		for tick := time.NewTicker(100 * time.Millisecond); ; <-tick.C {
			got, attempts := c.world.lines()
			if met(got, c.must) && attempts >= c.attempts {
				break
			}
			if deadline.Err() != nil {
				t.Errorf("%s: the log has the lines %v, want %v; the last %s counts %d attempts, want %d", c.name, got, c.must, notForwarding, attempts, c.attempts)
				break
			}
		}
	}
	for _, c := range cases {
		got, _ := c.world.lines()
		for text, n := range got {
			want, known := c.must[text]
			if known && want == 0 || n > 10 { // a state that has lasted is said each time, and lasts ten seconds at least
				t.Errorf("%s: %d lines %s", c.name, n, text)
			}
		}
	}
}

func met(got, want map[string]int) bool {
	for text, n := range want {
		if got[text] < n {
			return false
		}
	}
	return true
}

// visit has a stranger do something to the stream until the returned function is called.
func (w *world) visit(stranger func(context.Context, jetstream.JetStream) error) (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	nc, err := nats.Connect(w.nats.URL())
	w.must(err)
	js, err := jetstream.New(nc)
	w.must(err)
	done := make(chan error, 1)
	go func() { done <- stranger(ctx, js) }()
	return func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			w.t.Error(err)
		}
		nc.Close()
	}
}

// perVisit messages, with the pause between, are fewer than are published.
const perVisit = 50

// fullAndFree has the stream take some messages at a time.
func fullAndFree(ctx context.Context, js jetstream.JetStream) error {
	cfg := jetstream.StreamConfig{Name: "E2E", Subjects: []string{"mqtt.>"}, MaxMsgs: perVisit, Discard: jetstream.DiscardNew}
	s, err := js.CreateOrUpdateStream(ctx, cfg)
	for err == nil {
		var info *jetstream.StreamInfo
		if info, err = s.Info(ctx); err == nil && info.State.Msgs >= perVisit {
			err = s.Purge(ctx)
		}
		select {
		case <-time.After(600 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}
