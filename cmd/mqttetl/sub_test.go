package main

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/test/servers"
)

// TestSubConnectsAgain: a broker that restarts does not end sub, and its
// subscription is there again.
func TestSubConnectsAgain(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	host, port, _ := net.SplitHostPort(m.Addr)
	sub := mqttetlSub(t, "-h", host, "-p", port, "-t", "again")
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	said := func() bool { return strings.Contains(strings.Join(sub.got(), "\n"), "; connecting again") }
	eventually(t, "the loss is told", said)
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	mosquittoOut(t, "", "mosquitto_pub", "-h", host, "-p", port, "-t", "again", "-r", "-m", "back")
	eventually(t, "the message behind", func() bool { g := sub.got(); return g[len(g)-1] == "back" })
}

// TestSubIsTakenOver: a second client with the same id ends sub, with the
// remedy, instead of a fight without end.
func TestSubIsTakenOver(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	host, port, _ := net.SplitHostPort(m.Addr)
	sub := mqttetlSub(t, "-h", host, "-p", port, "-t", "again", "-i", "same")
	deadline := time.After(30 * time.Second)
	for {
		conn, err := net.Dial("tcp", m.Addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.Connect(context.Background(), conn, client.Options{Version: client.Version311, ClientID: "same", CleanStart: true})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-c.Done(): // sub has taken it back
			c.Close()
			continue
		case <-deadline:
			t.Fatal("sub goes on")
		case code := <-sub.done:
			eventually(t, "the remedy", func() bool { return strings.Contains(strings.Join(sub.got(), "\n"), "the same client id") })
			if code != exitUnreachable {
				t.Errorf("exit %d: %q", code, sub.got())
			}
		}
		c.Close()
		return
	}
}

// TestNoBrokerThere: each command says what to do where a URL and a port do not
// fit together, and ends with the same code.
func TestNoBrokerThere(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	for _, v := range []struct {
		url  string
		more string
		code int
		want string
	}{
		{"mqtt://127.0.0.1:1", "", exitUnreachable, "hint: start the broker, or name its host and port"},
		{"ws://" + m.Addr, "", exitUnreachable, "hint: does this port speak WebSocket?"},
		{"wss://" + m.Addr, "", exitUnreachable, "hint: does this port speak TLS?"},
		{m.URL, "ca.pem", exitUsage, "hint: with TLS the URL is mqtts:// or wss://"},
		{"ws://" + m.Addr, "ca.pem", exitUsage, "hint: with TLS the URL is mqtts:// or wss://"},
	} {
		for _, args := range [][]string{
			{"sub", "-L", v.url, "-t", "a"}, {"pub", "-L", v.url, "-t", "a", "-m", "b"}, {"simulate", "--to", v.url, "--count", "1"},
			{"bench", "--mqtt", v.url, "--case", "^mqtt/qos0$", "--dir", t.TempDir()},
		} {
			if v.more != "" {
				args = append(args, "--ca", v.more)
			}
			if r := call(t, args...); r.code != v.code || r.out != "" || !strings.Contains(r.err, v.want) {
				t.Errorf("%q: exit %d, want %d: %swant %s", args, r.code, v.code, r.err, v.want)
			}
		}
	}
}
