package ingest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
)

// transports is a Mosquitto that speaks all of them, by URL.
func transports(t *testing.T) (m *servers.Mosquitto, urls map[string]string, ca string) {
	t.Helper()
	a := newAuthority(t)
	cert, key := issue(t, a, "broker", time.Hour)
	secure := "\ncafile " + a.CA() + "\ncertfile " + cert + "\nkeyfile " + key
	addr := map[string]string{}
	conf := []string{"max_queued_messages 0", "max_inflight_messages 1000"}
	for scheme, lines := range map[string]string{"mqtts": secure, "ws": "\nprotocol websockets", "wss": "\nprotocol websockets" + secure} {
		l, err := net.Listen("tcp", "127.0.0.2:0") // where no connection of ours leaves from
		if err != nil {
			t.Fatal(err)
		}
		addr[scheme] = l.Addr().String()
		l.Close()
		host, port, _ := net.SplitHostPort(addr[scheme])
		conf = append(conf, "listener "+port+" "+host+lines)
	}
	m = startMosquitto(t, strings.Join(conf, "\n"))
	urls = map[string]string{"mqtt": m.URL}
	for scheme, a := range addr {
		urls[scheme] = scheme + "://" + a
	}
	return m, urls, a.CA()
}

// TestStopUnderLoad: a source that is stopped while messages come says goodbye,
// warns of nothing, and has had acknowledged what it has handed to the log: the
// next one gets each message once, over every transport.
func TestStopUnderLoad(t *testing.T) {
	m, urls, ca := transports(t)
	const restarts, each = 5, 300
	for scheme, url := range urls {
		for _, version := range []string{Version5, Version311} {
			for qos := byte(1); qos <= 2; qos++ {
				id := fmt.Sprintf("%s-%s-%d", scheme, version, qos)
				t.Run(id, func(t *testing.T) {
					t.Parallel()
					log, lines := newFakeLog(t), &logLines{}
					c := Config{URL: url, ClientID: id, Version: version, Subscribe: []string{id}, QoS: qos, Logger: lines.logger()}
					if strings.HasSuffix(scheme, "s") && scheme != "ws" {
						c.TLS = TLS{CA: ca, ServerName: "broker.test"}
					}
					flood := newFlood(t, m.Addr, id, qos)
					for i := range restarts {
						s := newSource(t, c, log)
						stop := start(t, s)
						subscribed(t, s)
						if i == 0 {
							flood.begin(t)
						}
						eventually(t, "messages", func() bool { return s.Stats().Received >= each })
						begun := time.Now()
						if err := stop(); err != nil {
							t.Fatal(err)
						}
						if took := time.Since(begun); took > time.Second {
							t.Errorf("stop %d took %v", i, took)
						}
					}
					sent := flood.end(t)
					s := newSource(t, c, log)
					stop := start(t, s)
					subscribed(t, s)
					wantPayloads(t, log, sent)
					if err := stop(); err != nil {
						t.Fatal(err)
					}
					if lines.count("WARN")+lines.count("ERROR") > 0 {
						t.Errorf("it warns of something:\n%s", lines)
					}
					eventually(t, "a goodbye for each stop in the broker's log", func() bool {
						said, err := os.ReadFile(m.Log)
						return err == nil && strings.Count(string(said), "Client "+id+" disconnected.") == restarts+1
					})
				})
			}
		}
	}
}

// flood is a mosquitto_pub that sends numbered lines until it is told to end.
type flood struct {
	cmd    *exec.Cmd
	stop   context.CancelFunc
	ended  chan error
	prefix string
	sent   []string
}

func newFlood(t *testing.T, addr, topic string, qos byte) *flood {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	f := &flood{ended: make(chan error, 1), prefix: topic}
	f.cmd = exec.Command("mosquitto_pub", "-h", host, "-p", port, "-t", topic, "-q", fmt.Sprint(qos), "-l")
	return f
}

// begin sends lines, about a thousand a second, in the background.
func (f *flood) begin(t *testing.T) {
	t.Helper()
	in, err := f.cmd.StdinPipe()
	if err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		t.Fatalf("mosquitto_pub (apt-get install mosquitto-clients): %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	f.stop = stop
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			var lines strings.Builder
			for range 10 {
				line := fmt.Sprintf("%s %d", f.prefix, len(f.sent))
				f.sent = append(f.sent, line)
				fmt.Fprintln(&lines, line)
			}
			if _, err := in.Write([]byte(lines.String())); err != nil {
				break
			}
			<-tick.C
		}
		in.Close()
		f.ended <- f.cmd.Wait()
	}()
}

// end returns what was sent once the broker has acknowledged it.
func (f *flood) end(t *testing.T) []string {
	t.Helper()
	f.stop()
	select {
	case err := <-f.ended:
		if err != nil {
			t.Fatalf("mosquitto_pub: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("mosquitto_pub does not end")
	}
	return f.sent
}

// TestGoodbyeCutOff: a stop that the broker has not heard says so, because the
// broker may send again what was acknowledged last.
func TestGoodbyeCutOff(t *testing.T) {
	lines := &logLines{}
	w := newWire(t, newFakeLog(t), true, true, func(l *link) { l.logger = lines.logger() })
	w.send(t, publishFrame(true, 2, 1, "a", nil, nil))
	w.expect(t, puback(1))
	w.conn.link.goodbye(w.conn) // the broker reads nothing more, and does not close
	if lines.count("before the broker had closed the connection") != 1 {
		t.Errorf("log says\n%s", lines)
	}
}
