package ingest

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/test/servers"
)

func startMosquitto(t testing.TB, extra string) *servers.Mosquitto {
	t.Helper()
	m, err := servers.StartMosquitto(t.TempDir(), extra)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Stop() })
	return m
}

// publishLines publishes each line as one message with mosquitto_pub and waits
// until the broker has acknowledged all.
func publishLines(t testing.TB, addr, topic string, qos int, lines []string, more ...string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	args := append([]string{"-h", host, "-p", port, "-t", topic, "-q", fmt.Sprint(qos), "-l"}, more...)
	cmd := exec.CommandContext(t.Context(), "mosquitto_pub", args...) // dies with the test
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		t.Fatal("mosquitto_pub not found: apt-get install mosquitto-clients")
	} else if err != nil {
		t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
}

func numbered(prefix string, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("%s %d", prefix, i)
	}
	return lines
}

// wantPayloads waits until the log holds exactly these payloads; in any order,
// but none twice.
func wantPayloads(t testing.TB, log *fakeLog, want []string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d records", len(want)), func() bool { return len(log.all()) >= len(want) })
	left := map[string]bool{}
	for _, s := range want {
		left[s] = true
	}
	for _, r := range log.all() {
		if !left[string(r.Payload)] {
			t.Fatalf("record %q is there twice or was never published", r.Payload)
		}
		delete(left, string(r.Payload))
	}
}

func subscribed(t testing.TB, s *Source) {
	t.Helper()
	eventually(t, "subscription", func() bool { return s.Stats().Subscribed })
}

func TestMosquitto(t *testing.T) {
	m := startMosquitto(t, "max_queued_messages 0")
	for _, version := range []string{Version5, Version311, VersionAuto} {
		for qos := range 3 {
			t.Run(fmt.Sprintf("%s/qos%d", version, qos), func(t *testing.T) {
				log := newFakeLog(t)
				topic := fmt.Sprintf("test/%s/%d", version, qos)
				s := newSource(t, Config{URL: m.URL, ClientID: topic, Version: version,
					Subscribe: []string{topic}, QoS: byte(qos)}, log)
				stop := start(t, s)
				subscribed(t, s)
				lines := numbered(topic, 1000)
				publishLines(t, m.Addr, topic, qos, lines)
				wantPayloads(t, log, lines)
				for i, r := range log.all() {
					if string(r.Payload) != lines[i] || string(r.Topic) != topic || r.Flags.QoS() != qos {
						t.Fatalf("record %d is %s %q with QoS %d", i, r.Topic, r.Payload, r.Flags.QoS())
					}
				}
				if qos > 0 {
					eventually(t, "acks", func() bool { return s.Stats().Acknowledged == 1000 })
				}
				if err := stop(); err != nil {
					t.Fatal(err)
				}
				if st := s.Stats(); st.Connected || st.Received != 1000 || st.Reconnects != 0 {
					t.Fatalf("stats %+v", st)
				}
			})
		}
	}
}

// TestMochi covers WebSocket too.
func TestMochi(t *testing.T) {
	m := startMochi(t)
	for _, url := range []string{m.URL, m.WebSocketURL} {
		for _, version := range []string{Version5, Version311} {
			t.Run(url[:4]+version, func(t *testing.T) {
				log := newFakeLog(t)
				s := newSource(t, Config{URL: url, ClientID: url[:4] + version, Version: version, Subscribe: []string{"#"}, QoS: 1}, log)
				start(t, s)
				subscribed(t, s)
				lines := numbered("mochi", 5)
				for i := range lines { // one by one: mochi 2.7.9 can deadlock on acks that cross publishes
					publishLines(t, m.Addr, "t", 1, lines[i:i+1])
					eventually(t, "ack", func() bool { return s.Stats().Acknowledged == uint64(i+1) })
				}
				wantPayloads(t, log, lines)
			})
		}
	}
}

// TestQoS2OverReconnects cuts the connection again and again while messages flow.
func TestQoS2OverReconnects(t *testing.T) {
	m := startMosquitto(t, "max_queued_messages 0\npersistence true")
	for _, version := range []string{Version5, Version311} {
		t.Run(version, func(t *testing.T) {
			log := newFakeLog(t)
			s := newSource(t, Config{URL: m.URL, ClientID: "c" + version, Version: version,
				Subscribe: []string{"t/" + version}, QoS: 2}, log)
			s.links[0].pace.stable = 0 // each cut is the first
			start(t, s)
			subscribed(t, s)
			lines := numbered(version, 5000)
			// One cut in the middle of each part, and none before its exchanges are
			// finished: Mosquitto 2.0.11 publishes again what it has released if it is
			// cut off twice before the release is answered (against MQTT 5 §4.3.3).
			const part = 500
			for begin := 0; begin < len(lines); begin += part {
				published := make(chan struct{})
				go func() { defer close(published); publishLines(t, m.Addr, "t/"+version, 2, lines[begin:begin+part]) }()
				eventually(t, "flow", func() bool { return len(log.all()) >= begin+part/3 && s.Stats().Connected })
				if c := s.links[0].current(); c != nil {
					_ = c.Close()
				}
				<-published
				eventually(t, "every exchange is finished", func() bool {
					return len(log.all()) >= begin+part && len(log.known(s.links[0].session.Key)) == 0
				})
			}
			wantPayloads(t, log, lines)
			if s.Stats().Reconnects < 5 {
				t.Fatalf("only %d reconnects", s.Stats().Reconnects)
			}
		})
	}
}

func TestBrokerRestarts(t *testing.T) {
	m := startMosquitto(t, "persistence true\nmax_queued_messages 0")
	log, lines := newFakeLog(t), &logLines{}
	s := newSource(t, Config{URL: m.URL, ClientID: "c", Subscribe: []string{"t"}, QoS: 1, Logger: lines.logger()}, log)
	stop := start(t, s)
	subscribed(t, s)
	first, offline, last := numbered("first", 100), numbered("offline", 100), numbered("last", 100)
	publishLines(t, m.Addr, "t", 1, first)
	wantPayloads(t, log, first)
	_ = stop()
	publishLines(t, m.Addr, "t", 1, offline)
	s = newSource(t, s.cfg, log)
	start(t, s)
	wantPayloads(t, log, append(first, offline...))
	eventually(t, "acks", func() bool { return s.Stats().Acknowledged == 100 })
	marker := []string{"the broker has read our acks"}
	publishLines(t, m.Addr, "t", 0, marker)
	offline = append(offline, marker...)
	wantPayloads(t, log, append(first, offline...))
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "loss is noticed", func() bool { return !s.Stats().Connected && lines.count("connection refused") > 0 })
	eventually(t, "several attempts", func() bool { s.links[0].mu.Lock(); defer s.links[0].mu.Unlock(); return s.links[0].failures > 10 })
	if n := lines.count("connection refused"); n != 1 {
		t.Fatalf("said %d times that the broker is down:\n%s", n, lines)
	}
	if err := m.Restart(); err != nil {
		t.Fatal(err)
	}
	subscribed(t, s)
	publishLines(t, m.Addr, "t", 1, last)
	wantPayloads(t, log, append(append(first, offline...), last...))
	if st := s.Stats(); st.Reconnects != 1 {
		t.Fatalf("stats %+v", st)
	}
	if lines.count("lost our session") != 0 {
		t.Fatalf("log says\n%s", lines)
	}
}

func TestBrokerLosesTheSession(t *testing.T) {
	m := startMosquitto(t, "persistence false")
	log, lines := newFakeLog(t), &logLines{}
	s := newSource(t, Config{URL: m.URL, ClientID: "c", Subscribe: []string{"t"}, QoS: 1, Logger: lines.logger()}, log)
	start(t, s)
	subscribed(t, s)
	if err := errors.Join(m.Kill(), m.Restart()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "session lost", func() bool { return gaugeValue(t, s.counters.sessionLost) == 1 && s.Stats().Subscribed })
	if lines.count("lost our session") != 1 {
		t.Fatalf("log says\n%s", lines)
	}
	publishLines(t, m.Addr, "t", 1, []string{"after"})
	wantPayloads(t, log, []string{"after"})
}

func TestShare(t *testing.T) {
	m := startMosquitto(t, "max_queued_messages 0")
	log := newFakeLog(t)
	s := newSource(t, Config{URL: m.URL, ClientID: "c", Subscribe: []string{"t/#"}, QoS: 1, Share: "g", Connections: 2}, log)
	start(t, s)
	subscribed(t, s)
	lines := numbered("shared", 1000)
	publishLines(t, m.Addr, "t/x", 1, lines)
	wantPayloads(t, log, lines)
	if s.links[1].clientID != "c-2" {
		t.Fatalf("client id %q", s.links[1].clientID)
	}
}

// TestKeepaliveThroughAPausedLog lets the log stand still for longer than the
// broker and the client wait for each other.
func TestKeepaliveThroughAPausedLog(t *testing.T) {
	m := startMosquitto(t, "max_queued_messages 0\nmax_inflight_messages 0")
	for _, version := range []string{Version5, Version311} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			log, lines := newFakeLog(t), &logLines{}
			s := newSource(t, Config{URL: m.URL, ClientID: "c" + version, Version: version, Subscribe: []string{version}, QoS: 1,
				ReceiveMaximum: 65535, KeepAlive: 2 * time.Second, Logger: lines.logger()}, log)
			start(t, s)
			subscribed(t, s)
			log.hold(true)
			payloads := make([]string, 400)
			for i := range payloads {
				payloads[i] = fmt.Sprintf("%06d%s", i, strings.Repeat("x", 100<<10))
			}
			publishLines(t, m.Addr, version, 1, payloads)
			eventually(t, "the window fills", func() bool { n, _ := log.pending(); return n >= window/2 })
			<-time.After(7 * time.Second) // the broker waits for 3
			if st := s.Stats(); !st.Connected || st.Reconnects != 0 {
				t.Fatalf("the connection did not survive: %+v\n%s", st, lines)
			}
			log.hold(false)
			wantPayloads(t, log, payloads)
			<-time.After(4 * time.Second) // the swallowed PINGRESPs were the right ones
			if st := s.Stats(); !st.Connected || st.Reconnects != 0 || st.Redelivered != 0 {
				t.Fatalf("the connection did not survive: %+v\n%s", st, lines)
			}
		})
	}
}

// TestDroppedIsWatched makes Mosquitto drop, and tell.
func TestDroppedIsWatched(t *testing.T) {
	m := startMosquitto(t, "sys_interval 1\nmax_queued_messages 1\nmax_inflight_messages 1")
	log := newFakeLog(t)
	log.hold(true)
	s := newSource(t, Config{URL: m.URL, ClientID: "c", Subscribe: []string{"t"}, QoS: 1, ReceiveMaximum: 1}, log)
	start(t, s)
	subscribed(t, s)
	publishLines(t, m.Addr, "t", 1, numbered("x", 100))
	eventually(t, "the gauge follows", func() bool { return gaugeValue(t, s.counters.dropped) >= 90 })
	log.hold(false)
	eventually(t, "records", func() bool { return len(log.all()) > 0 })
	for _, r := range log.all() {
		if string(r.Topic) != "t" {
			t.Fatalf("%s was stored", r.Topic)
		}
	}
}

func startMochi(t testing.TB) *embedded.Mochi {
	t.Helper()
	address, err := servers.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	m, err := embedded.StartMochi(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestLogFailureEndsRun(t *testing.T) {
	m := startMosquitto(t, "")
	log := newFakeLog(t)
	broken := errors.New("disk on fire")
	s := newSource(t, Config{URL: m.URL, ClientID: "c", Subscribe: []string{"t"}, QoS: 1}, log)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	subscribed(t, s)
	log.failWith(broken)
	publishLines(t, m.Addr, "t", 1, []string{"x"})
	select {
	case err := <-ended:
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "source default") {
			t.Fatalf("Run returned %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Run goes on")
	}
	if n := s.Stats().Acknowledged; n != 0 {
		t.Fatalf("%d acknowledged", n)
	}
}

// TestPlannedStopLeavesNothingUnacknowledged: what was on its way when the
// source was told to stop does not come again.
func TestPlannedStopLeavesNothingUnacknowledged(t *testing.T) {
	m := startMosquitto(t, "max_queued_messages 0")
	log := newFakeLog(t)
	cfg := Config{URL: m.URL, ClientID: "c", Subscribe: []string{"t"}, QoS: 1}
	lines := numbered("x", 20000)
	s := newSource(t, cfg, log)
	stop := start(t, s)
	subscribed(t, s)
	published := make(chan struct{})
	go func() { defer close(published); publishLines(t, m.Addr, "t", 1, lines) }()
	eventually(t, "flow", func() bool { return len(log.all()) > 1000 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s = newSource(t, cfg, log)
	start(t, s)
	<-published
	wantPayloads(t, log, lines)
}

var _ Log = (*fakeLog)(nil)
