package simulate

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/test/servers"
)

func mosquitto(t *testing.T, extra string) *servers.Mosquitto {
	t.Helper()
	m, err := servers.StartMosquitto(t.TempDir(), "max_queued_messages 0\n"+extra)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Kill() })
	return m
}

// received is what a subscriber has got, topics and payloads.
type received struct {
	mu       sync.Mutex
	messages []Message
}

func (r *received) add(topic string, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, Message{Topic: topic, Payload: bytes.Clone(payload)})
}

// await waits for n messages.
func (r *received) await(t *testing.T, n int) []Message {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		r.mu.Lock()
		got := slices.Clone(r.messages)
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-late:
			t.Fatalf("%d messages of %d have arrived", len(got), n)
		case <-tick.C:
		}
	}
}

// equal compares what has arrived with what the scenario says.
func equal(t *testing.T, got []Message, s *Scenario, n int, topic func(string) string) {
	t.Helper()
	want := take(t, s, n)
	if len(got) != n {
		t.Fatalf("%d messages, want %d", len(got), n)
	}
	for i := range want {
		if got[i].Topic != topic(want[i].Topic) || !bytes.Equal(got[i].Payload, want[i].Payload) {
			t.Fatalf("message %d: %s %q, want %s %q", i, got[i].Topic, got[i].Payload, want[i].Topic, want[i].Payload)
		}
	}
}

func subscribeMQTT(t *testing.T, addr string) *received {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := &received{}
	c, err := client.Connect(context.Background(), conn, client.Options{Version: client.Version5, ClientID: "all", CleanStart: true,
		Receive: func(m *client.Received) error { r.add(string(m.Topic), m.Payload); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := c.Subscribe(context.Background(), []client.Filter{{Topic: "#", QoS: 2}}, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMosquittoGetsTheScenario(t *testing.T) {
	m := mosquitto(t, "")
	for qos := range byte(3) {
		for _, version := range []byte{client.Version5, client.Version311} {
			got := subscribeMQTT(t, m.Addr)
			s := of(All, 20, 4000)
			s.Count = 1000
			to, err := OpenMQTT(t.Context(), MQTTConfig{URL: m.URL, ClientID: "sim", Version: version, QoS: qos, Connections: 1})
			if err != nil {
				t.Fatal(err)
			}
			a, err := Run(t.Context(), s, to, true, func(uint64) {})
			to.Close()
			if err != nil || a.Sent != 1000 || a.Confirmed != 1000 {
				said, _ := os.ReadFile(m.Log)
				t.Fatalf("QoS %d, MQTT %d: %+v, %v\n%s", qos, version, a, err, said)
			}
			if want := take(t, s, 1000)[999].At; a.Took < want {
				t.Errorf("QoS %d: sent in %v, the scenario takes %v", qos, a.Took, want)
			}
			equal(t, got.await(t, 1000), s, 1000, func(topic string) string { return topic })
		}
	}
}

// Each device keeps to one connection, so that its own order holds.
func TestSeveralConnections(t *testing.T) {
	m := mosquitto(t, "")
	got := subscribeMQTT(t, m.Addr)
	s := of("sparkplug", 9, 1)
	s.Count = 5000
	to, err := OpenMQTT(t.Context(), MQTTConfig{URL: m.URL, ClientID: "sim", Version: client.Version5, QoS: 1, Connections: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if a, err := Run(t.Context(), s, to, false, func(uint64) {}); err != nil || a.Confirmed != 5000 {
		t.Fatalf("%+v, %v", a, err)
	}
	want := map[string][]Message{} // by edge node
	node := func(m Message) string { return strings.Split(m.Topic, "/")[3] }
	for _, m := range take(t, s, 5000) {
		want[node(m)] = append(want[node(m)], m)
	}
	for i, m := range got.await(t, 5000) {
		if next := want[node(m)][0]; m.Topic != next.Topic || !bytes.Equal(m.Payload, next.Payload) {
			t.Fatalf("message %d: %s, want %s", i, m.Topic, next.Topic)
		}
		want[node(m)] = want[node(m)][1:]
	}
}

func TestNATSGetsTheScenario(t *testing.T) {
	n, err := servers.StartNATSProcess(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Kill() })
	conn, err := nats.Connect(n.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	subject := func(topic string) string { s, _ := natsmsg.Subject("x", []byte(topic)); return s }
	for _, stream := range []string{"", "LOAD"} {
		got := &received{}
		sub, err := conn.Subscribe("x.>", func(m *nats.Msg) { got.add(m.Subject, m.Data) })
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		s := of(All, 20, 1)
		s.Count = 20_000
		to, err := OpenNATS(t.Context(), NATSConfig{URL: n.URL(), Prefix: "x", Stream: stream})
		if err != nil {
			t.Fatal(err)
		}
		a, err := Run(t.Context(), s, to, false, func(uint64) {})
		to.Close()
		if err != nil || a.Sent != 20_000 || a.Confirmed != 20_000 {
			t.Fatalf("stream %q: %+v, %v", stream, a, err)
		}
		equal(t, got.await(t, 20_000), s, 20_000, subject)
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "LOAD")
	if err != nil {
		t.Fatal(err)
	}
	if held := stream.CachedInfo().State.Msgs; held != 20_000 {
		t.Errorf("the stream holds %d messages", held)
	}
}

func TestDurationAndInterruptionEndARun(t *testing.T) {
	m := mosquitto(t, "")
	open := func() *MQTT {
		to, err := OpenMQTT(t.Context(), MQTTConfig{URL: m.URL, ClientID: "sim", Version: client.Version5, QoS: 1, Connections: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(to.Close)
		return to
	}
	s := of(All, 10, 500)
	s.Duration = 400 * time.Millisecond
	want := uint64(0)
	for _, m := range take(t, s, 1000) {
		if m.At < s.Duration {
			want++
		}
	}
	if a, err := Run(t.Context(), s, open(), true, func(uint64) {}); err != nil || a.Sent != want || a.Confirmed != want || a.Took > 5*time.Second {
		t.Errorf("duration: %+v, %v, want %d", a, err, want)
	}
	s.Duration = 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a, err := Run(ctx, s, open(), true, func(sent uint64) {
		if sent == 100 {
			cancel()
		}
	})
	if err != nil || a.Sent != 100 || a.Confirmed != 100 {
		t.Errorf("interrupted: %+v, %v", a, err)
	}
}

func TestATargetThatGoesAwayEndsTheRun(t *testing.T) {
	m := mosquitto(t, "")
	to, err := OpenMQTT(t.Context(), MQTTConfig{URL: m.URL, ClientID: "sim", Version: client.Version5, QoS: 1, Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	s := of(All, 10, 1000)
	a, err := Run(t.Context(), s, to, true, func(sent uint64) {
		if sent == 50 {
			m.Kill()
		}
	})
	if !errors.Is(err, mqttetl.ErrUnavailable) || a.Sent < 50 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := OpenMQTT(t.Context(), MQTTConfig{URL: m.URL, ClientID: "sim", Version: client.Version5, QoS: 1, Connections: 2}); !errors.Is(err, mqttetl.ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := OpenNATS(t.Context(), NATSConfig{URL: "nats://" + m.Addr, Prefix: "x"}); !errors.Is(err, mqttetl.ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestARefusedMessageIsNotConfirmed(t *testing.T) {
	m := mosquitto(t, "max_packet_size 150")
	to, err := OpenMQTT(t.Context(), MQTTConfig{URL: m.URL, ClientID: "sim", Version: client.Version5, QoS: 1, Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	a, err := Run(t.Context(), of("tasmota", 1, 100), to, true, func(uint64) {})
	if err == nil || !strings.Contains(err.Error(), "150") || a.Confirmed != a.Sent {
		t.Errorf("%+v, %v", a, err)
	}
}
