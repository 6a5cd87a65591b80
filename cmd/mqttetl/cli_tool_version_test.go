package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/mqttetl/mqttetl/test/servers"
)

// natsMQTT is nats-server's MQTT, which is 3.1.1 only, and says so.
func natsMQTT(t *testing.T) (address string) {
	t.Helper()
	address = freeAddress(t)
	n, err := servers.StartNATSProcess(t.TempDir(), fmt.Sprintf("server_name: old\nmqtt { listen: %q }", address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Kill() })
	return address
}

// oldBroker is a broker in front of one that is 3.1.1 only: it closes the
// connection at a CONNECT of MQTT 5, or ignores it.
func oldBroker(t *testing.T, behind string, closes bool) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serveOld(c, behind, closes) })
		}
	})
	return l.Addr().String()
}

func serveOld(c net.Conn, behind string, closes bool) {
	defer c.Close()
	in := bufio.NewReader(c)
	connect, err := in.Peek(10)
	if err != nil {
		return
	}
	if at := bytes.Index(connect, []byte("MQTT\x05")); at > 0 {
		if !closes {
			io.Copy(io.Discard, in)
		}
		return
	}
	to, err := net.Dial("tcp", behind)
	if err != nil {
		return
	}
	defer to.Close()
	go func() { io.Copy(to, in); to.Close() }()
	io.Copy(c, to)
}

// With `auto` every command goes on with MQTT 3.1.1 where the broker refuses
// MQTT 5, closes the connection, or does not answer, and says so.
func TestAllToolsFallBackTo311(t *testing.T) {
	t.Parallel()
	nats := natsMQTT(t)
	recorded := archiveOf(t, minute()[:20])
	const went = "the broker does not speak MQTT 5; going on with 3.1.1"
	for name, address := range map[string]string{
		"refuses": nats, "closes": oldBroker(t, nats, true), "is silent": oldBroker(t, nats, false),
	} {
		host, port, _ := net.SplitHostPort(address)
		for _, c := range []struct{ line, says string }{
			{"replay --speed max --to mqtt://" + address + " --archive " + recorded, "sent 20, confirmed 20"},
			{"simulate --count 20 --rate 0 --profile tasmota --connections 3 --to mqtt://" + address, "sent 20 = confirmed 20"},
			{"pub -V auto -q 1 -t a -m x -h " + host + " -p " + port, ""},
		} {
			command, _, _ := strings.Cut(c.line, " ")
			t.Run(name+"/"+command, func(t *testing.T) {
				t.Parallel()
				r := call(t, strings.Fields(c.line)...)
				if r.code != 0 || !strings.Contains(r.err, went) || !strings.Contains(r.out+r.err, c.says) {
					t.Errorf("exit %d, want %q and %q:\n%s%s", r.code, went, c.says, r.out, r.err)
				}
			})
		}
	}
}

// One set of values, by one name, and the spellings of mosquitto_pub.
func TestMQTTVersionIsOneOption(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	nats := natsMQTT(t)
	host, port, _ := net.SplitHostPort(m.Addr)
	recorded := archiveOf(t, minute()[:3])
	commands := []string{
		"replay --speed max --archive " + recorded + " --to " + m.URL,
		"simulate --count 3 --rate 0 --to " + m.URL,
		"pub -t a -n -h " + host + " -p " + port,
		"test -C 1 --interval 10ms -h " + host + " -p " + port,
	}
	for _, line := range commands {
		command, _, _ := strings.Cut(line, " ")
		for _, option := range []string{
			"-V auto", "-V 5", "-V 3.1.1", "-V 311", "-V mqttv5", "-V mqttv311", "-V 3.1", "-V mqttv31",
			"--mqtt-version 5", "--protocol-version mqttv311", "--mqtt-version=auto",
		} {
			if r := call(t, strings.Fields(line+" "+option)...); r.code != 0 || strings.Contains(r.err, "does not speak") {
				t.Errorf("%s %s: exit %d\n%s", command, option, r.code, r.err)
			}
		}
		for _, option := range []string{"-V 4", "-V 3", "--mqtt-version mqttv3"} {
			r := call(t, strings.Fields(line+" "+option)...)
			_, value, _ := strings.Cut(option, " ")
			if want := "--mqtt-version must be auto, 5 or 3.1.1, not \"" + value + "\"\n"; r.code != exitUsage || !strings.Contains(r.err, want) {
				t.Errorf("%s %s: exit %d\n%s", command, option, r.code, r.err)
			}
		}
		if r := call(t, command, "--help"); !strings.Contains(r.out, "-V, --mqtt-version version ") {
			t.Errorf("help of %s:\n%s", command, r.out)
		}
	}
	refused := call(t, strings.Fields("replay -V 5 --speed max --archive "+recorded+" --to mqtt://"+nats)...)
	if refused.code != exitUnreachable || !strings.Contains(refused.err, "--mqtt-version auto") {
		t.Errorf("replay -V 5 to a broker of 3.1.1: exit %d: %s", refused.code, refused.err)
	}
}

// Who answers to no version is no broker.
func TestNoVersionIsAnswered(t *testing.T) {
	t.Parallel()
	dead := oldBroker(t, "127.0.0.1:1", true)
	recorded := archiveOf(t, minute()[:3])
	for _, line := range []string{
		"replay --speed max --to mqtt://" + dead + " --archive " + recorded, "simulate --count 1 --to mqtt://" + dead,
	} {
		r := call(t, strings.Fields(line)...)
		if r.code != exitUnreachable || !strings.Contains(r.err, "MQTT 5") || !strings.Contains(r.err, "3.1.1") || !strings.Contains(r.err, "does this port speak MQTT") {
			t.Errorf("%s: exit %d: %s", line, r.code, r.err)
		}
	}
}
