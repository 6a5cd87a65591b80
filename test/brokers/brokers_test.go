package brokers

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/test/servers"
)

// TestBrokers is the part of the table that needs nothing beyond make deps.
func TestBrokers(t *testing.T) { check(t, rows(), keepalive, suite) }

func rows() []row {
	return []row{
		{name: "Mosquitto, MQTT 5", version: "5", start: plainMosquitto},
		{name: "Mosquitto, MQTT 3.1.1", version: "3.1.1", start: plainMosquitto},
		{name: "Mosquitto, TLS with client certificates", version: "5", start: tlsMosquitto},
		{name: "Mosquitto, WebSocket", version: "3.1.1", start: webSocketMosquitto},
		{name: "Mosquitto, password file", version: "5", start: passwordMosquitto},
		{name: "Mosquitto, $share", version: "5", share: true, start: plainMosquitto},
		{name: "nats-server", version: "3.1.1", start: startNATS, dollarInHash: true},
		{name: "mochi", version: "5", start: startMochi},
	}
}

// queues keeps what an offline session has to get.
const queues = "max_queued_messages 0\n"

func mosquitto(t *testing.T, dir, extra string) *servers.Mosquitto {
	t.Helper()
	m, err := servers.StartMosquitto(dir, queues+extra)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Kill() })
	return m
}

func plainMosquitto(t *testing.T) broker { return broker{url: mosquitto(t, t.TempDir(), "").URL} }

func webSocketMosquitto(t *testing.T) broker {
	addr := freeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	// Mosquitto 2.0.11 does not start with nothing but a WebSocket listener.
	mosquitto(t, t.TempDir(), "listener "+port+" 127.0.0.1\nprotocol websockets")
	return broker{url: "ws://" + addr + "/mqtt"}
}

func tlsMosquitto(t *testing.T) broker {
	dir := t.TempDir()
	a, err := servers.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(time.Hour)
	cert, key, err := a.Issue("broker", end)
	if err != nil {
		t.Fatal(err)
	}
	mine, mineKey, err := a.Issue("client", end)
	if err != nil {
		t.Fatal(err)
	}
	m := mosquitto(t, dir, "cafile "+a.CA()+"\ncertfile "+cert+"\nkeyfile "+key+"\nrequire_certificate true")
	return broker{url: "mqtts://" + m.Addr, tls: dial.TLS{CA: a.CA(), Cert: mine, Key: mineKey}}
}

func passwordMosquitto(t *testing.T) broker {
	dir := t.TempDir()
	file := filepath.Join(dir, "passwords")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", file, "etl", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd (apt-get install mosquitto): %v: %s", err, out)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	m := mosquitto(t, dir, "allow_anonymous false\npassword_file "+file)
	return broker{url: m.URL, user: "etl", pass: "secret"}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := servers.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// startNATS lets the server redeliver sooner than after its 30 s: after a
// kill -9 it waits so long, also when the session is there again.
func startNATS(t *testing.T) broker {
	addr := freeAddr(t)
	n, err := servers.StartNATSProcess(t.TempDir(), "server_name: brokers\nmqtt { listen: \""+addr+"\", ack_wait: \"2s\" }")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Kill() })
	return broker{url: "mqtt://" + addr}
}

func startMochi(t *testing.T) broker {
	m, err := embedded.StartMochi("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return broker{url: m.URL}
}
