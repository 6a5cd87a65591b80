//go:build brokers

package brokers

import (
	"flag"
	"testing"

	"github.com/mqttetl/mqttetl/internal/servers"
)

var modules = flag.String("modules", "", "node_modules with aedes and ws")

// TestMoreBrokers is the part of the table that make test-brokers prepares.
func TestMoreBrokers(t *testing.T) {
	check(t, []row{
		{name: "aedes", version: "3.1.1", noEmptyLevel: true, noDup: true, start: func(t *testing.T) broker { return broker{url: startAedes(t, false)} }},
		{name: "aedes, WebSocket", version: "3.1.1", noEmptyLevel: true, noDup: true, start: func(t *testing.T) broker { return broker{url: startAedes(t, true)} }},
		{name: "RabbitMQ", version: "3.1.1", retainedExact: true, dollarInHash: true, start: startRabbitMQ},
	})
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
