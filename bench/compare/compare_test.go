package compare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/test/servers"
)

// asRole tells a child of the test binary to be a server.
const asRole = "MQTTETL_TEST_COMPARE_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(asRole) != "" && len(os.Args) == 5 && os.Args[2] == "serve" {
		if err := Serve(context.Background(), os.Args[3], os.Args[4], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Setenv(asRole, "1")
	os.Exit(m.Run())
}

// config is a short run of the cases that match.
func config(t *testing.T, match string) Config {
	return Config{
		Self: os.Args[0], Dir: t.TempDir(), Duration: 200 * time.Millisecond, Rounds: 1,
		Sizes: []int{128}, Clients: []int{1}, Inflight: []int{100}, Topics: []int{1}, Match: regexp.MustCompile(match),
	}
}

// compare runs and sees that nothing stays in the directory.
func compare(t *testing.T, cfg Config) *Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return compareIn(ctx, t, cfg)
}

func compareIn(ctx context.Context, t *testing.T, cfg Config) *Report {
	t.Helper()
	r, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.Dir, dirRoot+r.Run+"*")); len(left) > 0 {
		t.Errorf("%v stays", left)
	}
	return r
}

// one is the report's only case, of one round.
func one(t *testing.T, r *Report) (*Case, *Round) {
	t.Helper()
	if len(r.Cases) != 1 || len(r.Cases[0].Rounds) != 1 {
		t.Fatalf("%d cases, want one of one round: %+v", len(r.Cases), r.Cases)
	}
	return &r.Cases[0], &r.Cases[0].Rounds[0]
}

// well reports everything that is not as it must be in a case that went well.
func well(t *testing.T, c *Case) {
	t.Helper()
	if c.Error != "" || c.Incomplete || c.Loss || c.Disagrees || len(c.Rounds) == 0 {
		t.Errorf("%s: error %q, incomplete %v, loss %v, disagrees %v, %d rounds", c.ID, c.Error, c.Incomplete, c.Loss, c.Disagrees, len(c.Rounds))
	}
	for _, r := range c.Rounds {
		if r.Sent == 0 || r.PublishRate <= 0 || r.ClientCPU == nil {
			t.Errorf("%s: %d sent, %f/s", c.ID, r.Sent, r.PublishRate)
		}
		if r.Delivered != r.Expected || r.Lost+r.Duplicated+r.Reordered+r.Foreign > 0 {
			t.Errorf("%s: %d delivered of %d: %d lost, %d duplicated, %d reordered, %d foreign", c.ID, r.Delivered, r.Expected, r.Lost, r.Duplicated, r.Reordered, r.Foreign)
		}
		if c.Inflight > 0 && (r.Confirmed != r.Sent || r.Confirm.Count != int64(r.Sent)) {
			t.Errorf("%s: %d confirmed of %d, %d times", c.ID, r.Confirmed, r.Sent, r.Confirm.Count)
		}
		if c.Subscribers > 0 && (r.EndToEnd.Count != int64(r.Delivered) || r.DeliveredRate <= 0 || r.WireBytes < 2*float64(c.Size)) {
			t.Errorf("%s: %d times of %d deliveries, %f/s, %f bytes a message", c.ID, r.EndToEnd.Count, r.Delivered, r.DeliveredRate, r.WireBytes)
		}
		for _, v := range r.Counters {
			if !v.Agrees {
				t.Errorf("%s: %+v", c.ID, v)
			}
		}
		if len(r.Counters) == 0 && c.Durability.Class != Instrument {
			t.Errorf("%s: the server's counters were not compared", c.ID)
		}
	}
}

func TestCountsAgree(t *testing.T) {
	t.Parallel()
	cfg := config(t, `^(mqtt|nats|jetstream|null)/`)
	cfg.Rates = []float64{500}
	r := compare(t, cfg)
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	worth := map[string]string{}
	for i := range r.Cases {
		c := &r.Cases[i]
		well(t, c)
		worth[c.ID] = c.Name
		if c.Mode == Latency {
			if r := &c.Rounds[0]; r.Sent != 50 || r.Unsent != 0 { // of 100 ms at 500/s
				t.Errorf("%s: %d messages sent", c.ID, r.Sent)
			}
			if !c.Rounds[0].EndToEnd.Open || c.Rounds[0].Late.Count == 0 {
				t.Errorf("%s: no open loop", c.ID)
			}
		}
		if c.Mode == Throughput && c.Durability.Class != Instrument && !c.Sync && c.Summary.Ceiling == 0 {
			t.Errorf("%s: no ceiling", c.ID)
		}
	}
	for id, name := range map[string]string{
		"mqtt/qos0":                   "MQTT QoS 0: not acknowledged",
		"mqtt/qos1/rate=500":          "MQTT QoS 1: acknowledged in memory",
		"jetstream/memory/async":      "JetStream memory, async: acknowledged in memory",
		"jetstream/file/sync":         "JetStream file, sync: written, not synced (sync_interval 2m)",
		"jetstream/file-always/async": "JetStream file, async: synced before the acknowledgement",
	} {
		if worth[id] != name {
			t.Errorf("%s is named %q, want %q", id, worth[id], name)
		}
	}
}

func TestBuiltInServers(t *testing.T) {
	t.Parallel()
	cfg := config(t, `^(mqtt/qos1|nats/core|jetstream/file/async)$`)
	cfg.builtIn = true
	r := compare(t, cfg)
	if len(r.Cases) != 3 || len(r.Servers) != 2 || len(r.Notes) < 2 {
		t.Fatalf("%d cases, servers %+v, notes %q", len(r.Cases), r.Servers, r.Notes)
	}
	for i := range r.Cases {
		well(t, &r.Cases[i])
	}
}

func TestShapes(t *testing.T) {
	t.Parallel()
	cfg := config(t, `^(mqtt/qos1|nats/core|jetstream/memory/async)/`)
	cfg.Clients, cfg.FanIn, cfg.FanOut, cfg.Topics, cfg.EMQTT = []int{3}, []int{4}, []int{5}, []int{7}, true
	r := compare(t, cfg)
	if len(r.Cases) != 3*3 {
		t.Errorf("%d cases", len(r.Cases))
	}
	for i := range r.Cases {
		well(t, &r.Cases[i])
	}
}

// The queue of this broker holds 10 messages of a subscriber; fifty publishers
// have more than that on the way.
func TestLossIsFound(t *testing.T) {
	t.Parallel()
	cfg := config(t, `^mqtt/qos1$`)
	cfg.mosquitto = "sys_interval 1\nmax_queued_messages 10\nmax_inflight_messages 1\n"
	cfg.Clients, cfg.FanIn = nil, []int{50}
	c, r := one(t, compare(t, cfg))
	if !c.Loss || r.Lost == 0 || r.Lost+r.Delivered != r.Expected || c.Summary.Lost != r.Lost {
		t.Errorf("loss %v: %d lost and %d delivered of %d", c.Loss, r.Lost, r.Delivered, r.Expected)
	}
	for _, v := range r.Counters { // the broker says so too
		if !v.Agrees {
			t.Errorf("%+v", v)
		}
	}
}

func TestReorderingAndDuplicatesAreFound(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "max_queued_messages 0\nsys_interval 1")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	cfg := config(t, `^mqtt/qos0/rate`)
	cfg.Rates = []float64{2000}
	shuffler := startShuffler(t, m.Addr)
	cfg.MQTT = "mqtt://" + shuffler.addr
	c, r := one(t, compare(t, cfg))
	swapped, repeated := shuffler.swapped.Load(), shuffler.repeated.Load()
	if swapped == 0 || repeated == 0 || r.Reordered != swapped || r.Duplicated != repeated || r.Lost != 0 {
		t.Errorf("%d reordered, %d duplicated, %d lost; %d were swapped and %d repeated", r.Reordered, r.Duplicated, r.Lost, swapped, repeated)
	}
	if !c.Disagrees { // the broker has got more than we have sent
		t.Error("the broker's counters agree")
	}
}

// What a given server cannot do is in the report, the other cases go on.
func TestServerWithoutJetStream(t *testing.T) {
	t.Parallel()
	n, err := embedded.StartNATS(t.TempDir(), func(o *server.Options) { o.JetStream = false })
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	cfg := config(t, `^(nats/core|jetstream/memory/sync|pipeline)$`)
	cfg.NATS = n.URL()
	r := compare(t, cfg)
	for _, c := range r.Cases {
		if core := c.ID == "nats/core"; core != (c.Error == "") || core != (len(c.Rounds) == 1) || !core && !strings.Contains(c.Error, "create stream MQTTETL_BENCH_") {
			t.Errorf("%s: %q", c.ID, c.Error)
		}
	}
	if r.Err() == nil || len(r.Cases) != 3 {
		t.Errorf("%v of %d cases", r.Err(), len(r.Cases))
	}
}

// A given server that does not let us in ends the run before it begins.
func TestServersThatRefuse(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "allow_anonymous false")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	n, err := embedded.StartNATS(t.TempDir(), func(o *server.Options) { o.Username, o.Password = "me", "right" })
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	var refused *client.Refusal
	for name, v := range map[string]struct {
		mqtt, nats string
		right      func(error) bool
	}{
		"MQTT login":  {m.URL, "", func(err error) bool { return errors.As(err, &refused) && refused.Login() }},
		"NATS login":  {"", n.URL(), func(err error) bool { return errors.Is(err, nats.ErrAuthorization) }},
		"MQTT closed": {"mqtt://127.0.0.1:1", "", func(err error) bool { return errors.Is(err, mqttetl.ErrUnavailable) }},
		"NATS closed": {"", "nats://127.0.0.1:1", func(err error) bool { return errors.Is(err, mqttetl.ErrUnavailable) }},
		"not NATS":    {"", strings.Replace(m.URL, "mqtt://", "nats://", 1), func(err error) bool { return errors.Is(err, mqttetl.ErrUnavailable) }},
	} {
		cfg := config(t, `^(mqtt/qos1|nats/core)$`)
		cfg.MQTT, cfg.NATS = v.mqtt, v.nats
		cfg.Progress = func(Progress) { t.Errorf("%s: a round has begun", name) }
		if r, err := Run(t.Context(), cfg); r != nil || !v.right(err) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(cfg.Dir, dirRoot+"*")); len(left) > 0 {
			t.Errorf("%s: %v stays", name, left)
		}
	}
}

func TestServerThatDies(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "sys_interval 1")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	cfg := config(t, `^(mqtt/qos1|nats/core)$`)
	cfg.MQTT, cfg.Rounds, cfg.Duration = m.URL, 2, 400*time.Millisecond
	cfg.Progress = func(p Progress) {
		if p.Round == 2 && strings.HasPrefix(p.Name, "MQTT") {
			m.Kill()
		}
	}
	r := compare(t, cfg)
	for _, c := range r.Cases {
		died := c.Protocol == MQTT
		if c.Incomplete != died || (c.Error != "") != died || len(c.Rounds) != map[bool]int{true: 1, false: 2}[died] {
			t.Errorf("%s: %d rounds, error %q", c.ID, len(c.Rounds), c.Error)
			continue
		}
		if cpu := c.Rounds[0].ServerCPU[c.Servers[0]]; cpu <= 0 { // also of a server that is given
			t.Errorf("%s: CPU %v", c.ID, c.Rounds[0].ServerCPU)
		}
	}
	if r.Servers[0].PID != m.Pid() {
		t.Errorf("process %d, want %d", r.Servers[0].PID, m.Pid())
	}
}

func TestTooFewFiles(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &before)
	cfg := config(t, `^nats/core`)
	cfg.Clients = []int{1, 1000}
	r := compare(t, cfg)
	if len(r.Cases) != 2 || r.Cases[0].Error != "" || !strings.Contains(r.Cases[1].Error, "ulimit -n") {
		t.Errorf("%q and %q", r.Cases[0].Error, r.Cases[1].Error)
	}
}
