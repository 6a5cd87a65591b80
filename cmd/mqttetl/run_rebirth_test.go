package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/internal/client"
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
	t.Parallel()
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
