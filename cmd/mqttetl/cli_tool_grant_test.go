package main

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/test/servers"
)

// TestGrantedLess: what the broker does not grant is told, and the rest goes on.
func TestGrantedLess(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "max_qos 1")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	for _, version := range []string{"5", "311"} {
		r := call(t, "sub", "-L", m.URL, "-V", version, "-t", "a/#", "-q", "2", "-E")
		if r.code != 0 || r.err != "mqttetl: filter a/#: the broker grants QoS 1, 2 was asked\n" {
			t.Errorf("sub, MQTT %s: exit %d: %s", version, r.code, r.err)
		}
	}
	r := call(t, "test", "-L", m.URL, "-V", "5", "-q", "2", "-C", "1", "-t", "a")
	if r.code != exitFailed || !strings.Contains(r.err, "the broker grants QoS 1, 2 was asked") || !strings.Contains(r.err, "the broker takes QoS 1 at most") {
		t.Errorf("test: exit %d: %s", r.code, r.err)
	}
}

// TestRefusedSubscription: one line with the broker's reason, and exit code 1,
// if nothing is granted.
func TestRefusedSubscription(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		version, reason string
		code            byte
		want            string
	}{
		"3.1.1":            {"311", "", 0x80, "mqttetl: filter a: broker's SUBACK: unspecified error (0x80)\n"},
		"5":                {"5", "", 0x87, "mqttetl: filter a: broker's SUBACK: not authorized (0x87)\n"},
		"5 with a reason":  {"5", "not yours", 0x97, "mqttetl: filter a: broker's SUBACK: quota exceeded (0x97): not yours\n"},
		"5 and a new code": {"5", "", 0xfe, "mqttetl: filter a: broker's SUBACK: unknown reason (0xfe)\n"},
	} {
		for _, tool := range []string{"sub", "test"} {
			url := refusing(t, c.version == "5", c.code, c.reason)
			if r := call(t, tool, "-L", url, "-V", c.version, "-t", "a", "-W", "20"); r.code != exitFailed || r.out != "" || r.err != c.want {
				t.Errorf("%s, %s: exit %d\n%s%swant %s", name, tool, r.code, r.out, r.err, c.want)
			}
		}
	}
}

// refusing is a broker that lets one client in and refuses what it subscribes to.
func refusing(t *testing.T, v5 bool, code byte, reason string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 4096) // more than a packet, which arrive one by one
		_, _ = c.Read(buf)
		connack, properties := []byte{0x20, 2, 0, 0}, []byte(nil)
		if v5 {
			connack, properties = []byte{0x20, 3, 0, 0, 0}, []byte{0}
			if reason != "" {
				properties = append([]byte{byte(3 + len(reason)), 0x1f, 0, byte(len(reason))}, reason...)
			}
		}
		_, _ = c.Write(connack)
		if n, err := c.Read(buf); err != nil || n < 4 || buf[0] != 0x82 {
			return
		}
		suback := append([]byte{0x90, byte(3 + len(properties)), buf[2], buf[3]}, append(properties, code)...)
		_, _ = c.Write(suback)
		_, _ = c.Read(buf) // DISCONNECT
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return fmt.Sprintf("mqtt://%s", l.Addr())
}

// TestPubWithinMosquittosWindow: Mosquitto without a limit of its queue takes no
// more QoS 2 messages at once than it sends, and MQTT 3.1.1 cannot say how many.
func TestPubWithinMosquittosWindow(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "max_queued_messages 0")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	host, port, _ := net.SplitHostPort(m.Addr)
	for _, version := range []string{"311", "5"} {
		r := callWith(t, strings.Repeat("a line\n", 5000), "pub", "-h", host, "-p", port, "-t", "lines", "-q", "2", "-l", "-V", version)
		if r.code != 0 || !strings.Contains(r.err, "5000") {
			t.Errorf("MQTT %s: exit %d: %s", version, r.code, r.err)
		}
	}
}
