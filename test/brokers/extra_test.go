//go:build brokers

package brokers

import (
	"flag"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
)

var modules = flag.String("modules", "", "node_modules with aedes and ws")

// TestMoreBrokers is the part of the table that make test-brokers prepares.
func TestMoreBrokers(t *testing.T) { check(t, moreRows(), keepalive, suite) }

// TestIdleMinute leaves a connection to every broker of the table alone for a
// minute, at the same time, in which the pings of a keepalive of 20 s are all
// that is sent. Without them a broker ends it after 30 s (MQTT 5 §3.1.2.10).
func TestIdleMinute(t *testing.T) {
	check(t, append(rows(), moreRows()...), 20*time.Second, func(w *world) {
		w.start()
		w.idle(time.Minute)
	})
}

func moreRows() []row {
	return []row{
		{name: "aedes", version: "3.1.1", noEmptyLevel: true, noDup: true, start: func(t *testing.T) broker { return broker{url: startAedes(t, false)} }},
		{name: "aedes, WebSocket", version: "3.1.1", noEmptyLevel: true, noDup: true, start: func(t *testing.T) broker { return broker{url: startAedes(t, true)} }},
		{name: "ActiveMQ", version: "auto", start: startActiveMQ},
		{name: "ejabberd", version: "5", start: startEjabberd},
		{name: "RabbitMQ", version: "3.1.1", retainedExact: true, dollarInHash: true, start: startRabbitMQ},
	}
}

func startAedes(t *testing.T, ws bool) string {
	p, wsURL, err := servers.StartAedes(t.TempDir(), *modules)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	if ws {
		return wsURL
	}
	return p.URL
}

func startRabbitMQ(t *testing.T) broker {
	p, err := servers.StartRabbitMQ(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return broker{url: p.URL}
}

func startActiveMQ(t *testing.T) broker {
	p, err := servers.StartActiveMQ(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return broker{url: p.URL}
}

func startEjabberd(t *testing.T) broker {
	p, err := servers.StartEjabberd(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return broker{url: p.URL, user: "etl@localhost", pass: "any"}
}
