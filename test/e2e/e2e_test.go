package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

// patience bounds every test; a test that passes needs a fraction of it.
const patience = 3 * time.Minute

// brokerConf keeps a session's queue whole: what a broker drops was never delivered.
const brokerConf = "persistence true\nautosave_interval 1800\nmax_queued_messages 0\nmax_inflight_messages 1000\nsys_interval 1"

// product is the program of the checkout, built once.
var product = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "mqttetl-e2e-")
	if err != nil {
		return "", err
	}
	return service.Build(context.Background(), dir, nil)
})

// TestMain removes the program that the tests have built. A child of the tests
// may be a worker of routes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == transform.WorkCommand {
		if err := transform.Work(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if bin, err := product(); err == nil {
		os.RemoveAll(strings.TrimSuffix(bin, "/mqttetl"))
	}
	os.Exit(code)
}

// world is a broker, a JetStream server and the service between them.
type world struct {
	*service.Service
	t      testing.TB
	ctx    context.Context
	broker *servers.Mosquitto
	nats   *servers.NATSProcess
}

func newWorld(t testing.TB, bin string, s service.Settings) *world {
	t.Helper()
	return newWorldOn(t, bin, "", s)
}

// newWorldOn adds natsConf to the configuration of nats-server.
func newWorldOn(t testing.TB, bin, natsConf string, s service.Settings) *world {
	t.Helper()
	w := &world{t: t}
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	var err error
	if w.broker, err = servers.StartMosquitto(t.TempDir(), brokerConf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.broker.Kill() })
	if w.nats, err = servers.StartNATSProcess(t.TempDir(), natsConf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.nats.Kill() })
	s.Broker, s.NATS = w.broker.URL, w.nats.URL()
	if w.Service, err = service.New(bin, t.TempDir(), s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Kill()
		if t.Failed() || os.Getenv("E2E_LOG") != "" {
			t.Logf("mqttetl wrote:\n%s", w.Output())
		}
	})
	return w
}

// productWorld is a world with the mqttetl of the checkout, ready.
func productWorld(t testing.TB, s service.Settings) *world {
	t.Helper()
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, bin, s)
	w.start()
	return w
}

func (w *world) start() {
	w.t.Helper()
	w.must(w.Start())
	w.must(w.Ready(w.ctx))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// publish publishes in the background until the returned function is called,
// which ends it and waits for what is in flight.
func (w *world) publish(p *Publisher) (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- p.Publish(ctx, -1) }()
	return func() {
		w.t.Helper()
		cancel()
		w.must(<-done)
	}
}

// account waits until everything is drained, stops the service and checks both
// stores against what the publisher saw acknowledged.
func (w *world) account(p *Publisher) []Archived {
	w.t.Helper()
	acknowledged := p.Acknowledged()
	w.must(Delivered(w.ctx, w.Service, acknowledged))
	took, err := w.Stop()
	w.must(err)
	w.t.Logf("SIGTERM took %v", took)
	if took > 5*time.Second { // a second on a machine with nothing else to do, see TestStopsInASecond
		w.t.Errorf("SIGTERM took %v", took)
	}
	w.must(w.Verify(w.ctx))
	rows, err := ReadArchive(w.Archive())
	w.must(err)
	w.must(CheckNumbers(rows, 1))
	stream, err := ReadStream(w.ctx, w.nats.URL(), "E2E")
	w.must(err)
	w.must(CheckSame(rows, stream))
	repeated, err := CheckAcknowledged(rows, acknowledged)
	w.must(err)
	w.t.Logf("%d acknowledged, %d rows, %d of them redelivered or published again", len(acknowledged), len(rows), repeated)
	return rows
}

// TestEachExactlyOnce: 20,000 messages on 100 topics from mosquitto_pub.
func TestEachExactlyOnce(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1})
	const topics, each = 100, 200
	host, port, _ := strings.Cut(w.broker.Addr, ":")
	sent := map[string]string{}
	for topic := range topics {
		name := fmt.Sprintf("e2e/line/%d", topic)
		var lines strings.Builder
		for i := range each {
			payload := fmt.Sprintf("message %d of topic %d", i, topic)
			sent[payload] = name
			fmt.Fprintln(&lines, payload)
		}
		cmd := exec.CommandContext(w.ctx, "mosquitto_pub", "-h", host, "-p", port, "-t", name, "-q", "1", "-l")
		cmd.Stdin = strings.NewReader(lines.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub (apt-get install mosquitto-clients): %v\n%s", err, out)
		}
	}
	rows := w.account(&Publisher{done: sent})
	if len(rows) != topics*each {
		t.Errorf("%d rows, want %d", len(rows), topics*each)
	}
}

// TestKill kills the service 20 times while a publisher sends.
func TestKill(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	p := &Publisher{Broker: w.broker.URL, Run: "kill", QoS: 1, Topics: 100, Workers: 8, Size: 64}
	stop := w.publish(p)
	for range 20 {
		w.must(p.AwaitAcked(w.ctx, p.Acked()+rnd.IntN(1500)))
		w.Kill()
		w.must(p.AwaitAcked(w.ctx, p.Acked()+rnd.IntN(100)))
		w.start()
	}
	stop()
	w.account(p)
}

// TestKillAtStart kills the service at moments counted from its start, so that
// it dies while it opens its stores, subscribes and resumes too.
func TestKillAtStart(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1})
	p := &Publisher{Broker: w.broker.URL, Run: "early", QoS: 1, Topics: 10, Workers: 4}
	stop := w.publish(p)
	for i := range 20 {
		w.Kill()
		w.must(w.Start())
		select {
		case <-time.After(time.Duration(i) * 5 * time.Millisecond): // the moment of the kill, not a wait for anything
		case <-w.ctx.Done():
		}
	}
	w.Kill()
	w.start()
	stop()
	w.account(p)
}

// TestQoS2 kills the service with a QoS 2 subscription: every message is one
// record, across reconnects too.
func TestQoS2(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 2})
	p := &Publisher{Broker: w.broker.URL, Run: "two", QoS: 2, Topics: 10, Workers: 8}
	stop := w.publish(p)
	for range 8 {
		w.must(p.AwaitAcked(w.ctx, p.Acked()+300))
		w.Kill()
		w.start()
	}
	stop()
	rows := w.account(p)
	seen := map[string]int64{}
	for _, r := range rows {
		if was, ok := seen[r.Payload]; ok {
			t.Errorf("%s is record %d and %d", r.Payload, was, r.Seq)
		}
		seen[r.Payload] = r.Seq
	}
}

// TestKillNATS kills and restarts the JetStream server in mid-stream.
func TestKillNATS(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1})
	p := &Publisher{Broker: w.broker.URL, Run: "nats", QoS: 1, Topics: 10, Workers: 8}
	stop := w.publish(p)
	for range 5 {
		w.must(p.AwaitAcked(w.ctx, p.Acked()+1000))
		w.must(w.nats.Kill())
		before, err := w.Status(w.ctx)
		w.must(err)
		// Neither ingest nor the archive waits for NATS.
		_, err = w.Await(w.ctx, "archive goes on without NATS", func(s service.Status) bool { return s.Archive.Cursor > before.Log.Last+500 })
		w.must(err)
		w.must(w.nats.Restart())
	}
	stop()
	w.account(p)
}

// TestStopBroker stops and restarts a broker that persists its sessions.
func TestStopBroker(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1})
	p := &Publisher{Broker: w.broker.URL, Run: "broker", QoS: 1, Topics: 10, Workers: 8}
	stop := w.publish(p)
	for range 5 {
		w.must(p.AwaitAcked(w.ctx, p.Acked()+1000))
		w.must(w.broker.Stop())
		w.must(w.broker.Restart())
	}
	w.must(p.AwaitAcked(w.ctx, p.Acked()+1000))
	stop()
	w.account(p)
}

// TestArchiveDeleted: an archive that is deleted while the service is stopped
// is rebuilt from what the log still holds, and the service says from where.
func TestArchiveDeleted(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1})
	p := &Publisher{Broker: w.broker.URL, Run: "gone", QoS: 1, Topics: 10, Workers: 8}
	w.must(p.Publish(w.ctx, 3000))
	_, err := w.Drained(w.ctx, 3000)
	w.must(err)
	w.must(w.nats.Kill()) // from here on the log keeps what NATS has not got
	w.must(p.Publish(w.ctx, 5000))
	_, err = w.Await(w.ctx, "archive has 5000", func(s service.Status) bool { return s.Archive.Cursor == 5000 })
	w.must(err)
	_, err = w.Stop()
	w.must(err)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		os.Remove(w.Archive() + suffix)
	}
	w.must(w.nats.Restart())
	w.must(w.Start())
	st, err := w.Drained(w.ctx, 5000)
	w.must(err)
	_, err = w.Stop()
	w.must(err)
	w.must(w.Verify(w.ctx))
	rows, err := ReadArchive(w.Archive())
	w.must(err)
	first := rows[0].Seq
	if first > 3001 || len(rows) < 2000 {
		t.Errorf("%d rows from %d; the log held at least the 2000 records behind 3000", len(rows), first)
	}
	w.must(CheckNumbers(rows, first))
	if last := rows[len(rows)-1].Seq; last != int64(st.Log.Last) {
		t.Errorf("rows up to %d, log up to %d", last, st.Log.Last)
	}
	if says := fmt.Sprintf("%d", first); first > 1 && !strings.Contains(w.Output(), "="+says) {
		t.Errorf("does not say that the archive begins with record %s", says)
	}
	stream, err := ReadStream(w.ctx, w.nats.URL(), "E2E")
	w.must(err)
	if len(stream) != 5000 {
		t.Errorf("%d messages in the stream", len(stream))
	}
}

// TestStopsInASecond stops the service under load. The best of three counts: a
// busy machine can hold up any of them.
func TestStopsInASecond(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1})
	p := &Publisher{Broker: w.broker.URL, Run: "stop", QoS: 1, Topics: 10, Workers: 4}
	stop := w.publish(p)
	best := time.Hour
	for range 3 {
		w.must(p.AwaitAcked(w.ctx, p.Acked()+500))
		took, err := w.Stop()
		w.must(err)
		best = min(best, took)
		w.start()
	}
	stop()
	w.account(p)
	if best > time.Second {
		t.Errorf("the quickest of three stops took %v", best)
	}
}
