package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/config"
)

const rebirthRoute = "routes:\n  - {name: metrics, topic: 'spBv1.0/{group}/+/{edge}', decode: sparkplug_b, rebirth: 10m, table: metrics, columns: {message: TEXT, metric: TEXT, value: ANY}}\n"

// node connects an edge node that tells of the commands it gets.
func (w world) node(t *testing.T, commands chan<- string) *client.Client {
	t.Helper()
	conn, err := net.Dial("tcp", w.mosquitto.Addr)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := decode.New("sparkplug_b", decode.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Connect(context.Background(), conn, client.Options{Version: client.Version311, ClientID: "press4", CleanStart: true, KeepAlive: 30,
		Receive: func(m *client.Received) error {
			return dec.Decode(string(m.Topic), m.Payload, func(doc any) error {
				d := doc.(map[string]any)
				commands <- fmt.Sprintf("%s %v %v %v retain %v qos %d", m.Topic, d["metric"], d["type"], d["value"], m.Flags.Retain(), m.Flags.QoS())
				return nil
			})
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Disconnect(0) })
	if _, err := c.Subscribe(t.Context(), []client.Filter{{Topic: "spBv1.0/plant/NCMD/press4", QoS: 1}}, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// A node whose birth is missing is asked for it, once, and what comes after the
// birth has rows.
func TestRebirth(t *testing.T) {
	w := newWorld(t)
	w.routed(t, rebirthRoute)
	service := start(t, nil, "run", "-c", w.config)
	w.awaitReady(t)
	commands := make(chan string, 100)
	node := w.node(t, commands)
	send := func(message, payload string) {
		t.Helper()
		if _, err := node.Publish(&client.Message{Topic: "spBv1.0/plant/" + message + "/press4", Payload: []byte(payload), QoS: 1}); err != nil {
			t.Fatal(err)
		}
		if err := node.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		send("NDATA", payloadB("", 2, 1.5))
	}
	select {
	case got := <-commands:
		if want := "spBv1.0/plant/NCMD/press4 Node Control/Rebirth Boolean true retain false qos 0"; got != want {
			t.Errorf("asked %q, want %q", got, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the node is not asked\n%s", service.err.String())
	}
	send("NBIRTH", payloadB("a", 2, 2))
	send("NDATA", payloadB("", 2, 3, "", 9, 4))
	eventually(t, "rows", func() bool {
		return slices.Equal(w.ask(t, `SELECT message, metric, value FROM metrics WHERE message <> 'NCMD' ORDER BY seq`), []string{"NBIRTH|a|2", "NDATA|a|3"})
	})
	if _, metrics := w.get("/metrics"); !strings.Contains(metrics, `mqttetl_sparkplug_rebirths_requested_total{source="plant"} 1`+"\n") {
		t.Error("the request is not counted, or not once")
	}
	service.terminate(t)
	if got := w.ask(t, `SELECT count(*) FROM msg WHERE topic LIKE '%/NCMD/%'`); got[0] != "1" || len(commands) > 0 {
		t.Errorf("%s commands in the archive, %d more at the node", got[0], len(commands))
	}
}

// Who is asked, and how often, whatever strangers send.
func TestRebirthIsBounded(t *testing.T) {
	now := time.Date(2026, 1, 5, 20, 0, 0, 0, time.UTC)
	cfg := &config.Config{Sources: []config.Source{{Name: "plant"}}, Routes: []transform.Route{{Rebirth: time.Minute}}}
	r := newRebirths(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	r.now = func() time.Time { return now }
	unborn := func(source, node string, at time.Time) transform.Unborn {
		return transform.Unborn{Source: source, Group: "g", Node: node, Time: at.UnixNano(), Every: time.Minute}
	}
	expect := func(what string, want int) {
		t.Helper()
		if got := len(r.queue); got != want {
			t.Errorf("%s: %d nodes are to be asked, want %d", what, got, want)
		}
		for len(r.queue) > 0 {
			<-r.queue
		}
	}
	r.ask([]transform.Unborn{unborn("plant", "n", now), unborn("plant", "n", now), unborn("plant", "m", now)})
	expect("two nodes, one of them twice", 2)
	now = now.Add(59 * time.Second)
	r.ask([]transform.Unborn{unborn("plant", "n", now)})
	expect("too early", 0)
	now = now.Add(time.Second)
	r.ask([]transform.Unborn{unborn("plant", "n", now)})
	expect("in time", 1)
	r.ask([]transform.Unborn{unborn("plant", "old", now.Add(-61*time.Second)), unborn("import", "n", now)})
	expect("history, and no source of ours", 0)
	for i := range 3 * rebirthNodes {
		r.ask([]transform.Unborn{unborn("plant", fmt.Sprint(i), now)})
	}
	if expect("many", rebirthQueue); len(r.next) > rebirthNodes {
		t.Errorf("%d nodes are remembered", len(r.next))
	}
	for i := range 3 * rebirthNodes {
		if r.ask([]transform.Unborn{unborn("plant", fmt.Sprint("x", i), now)}); len(r.queue) == rebirthQueue {
			expect("", rebirthQueue)
		}
	}
	if len(r.next) != rebirthNodes {
		t.Errorf("%d nodes are remembered", len(r.next))
	}
	expect("the last", len(r.queue))
	now = now.Add(time.Hour)
	r.ask([]transform.Unborn{unborn("plant", "y", now)})
	if expect("an hour later", 1); len(r.next) != 1 {
		t.Errorf("%d nodes are remembered", len(r.next))
	}
	r.later([]transform.Unborn{unborn("plant", "y", now)})
	now = now.Add(rebirthRetry)
	r.ask([]transform.Unborn{unborn("plant", "y", now)})
	expect("after a failure", 1)
	var none *rebirths
	none.ask([]transform.Unborn{unborn("plant", "n", now)})
	if newRebirths(&config.Config{Routes: make([]transform.Route, 1)}, nil, nil) != nil {
		t.Error("nodes are asked although no route says so")
	}
}
