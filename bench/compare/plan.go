package compare

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/internal/dial"
)

// Config says what to compare.
type Config struct {
	Version string // of mqttetl
	Command string // repeats the run
	// Self is the path of this program: with ServeArgs it must call Serve, and with
	// "run -c FILE" be the pipeline.
	Self string
	Dir  string // below which servers keep their files; "": the system's directory for temporary files

	MQTT    string   // URL of a broker; "": one is started
	MQTTTLS dial.TLS // of that broker
	NATS    string   // URL of a server, nats or tls; "": one is started
	NATSTLS dial.TLS // of that server
	Creds   string   // file with credentials for it, or ""
	Monitor string   // URL of its monitoring port; "": port 8222 of its host

	Duration time.Duration // of publishing, of a case in a round; open loop and the instrument's own cases have half
	Rounds   int

	// What varies; every combination is a case. Inflight only where there are
	// confirmations.
	Sizes, Inflight, Topics []int
	Clients                 []int     // N publishers, N subscribers, in pairs
	FanIn, FanOut           []int     // N publishers, one subscriber; one publisher, N subscribers
	Rates                   []float64 // of the open loop, messages a second

	Match *regexp.Regexp // only cases whose ID matches, with or without what varies; nil: all
	EMQTT bool           // headers as emqtt-bench writes them, with milliseconds

	Progress func(Progress) // called ten times a second; may be nil

	// Of tests: settings of the broker that is started, and no installed servers.
	mosquitto string
	builtIn   bool
}

// Progress is how far a run has come.
type Progress struct {
	Round, Rounds   int
	Case, Cases     int // from 1
	Name            string
	Sent, Delivered uint64
}

// How the IDs of cases begin that measure the instrument.
const (
	nullRoot      = "null/"
	referenceRoot = "reference/"
)

// kind is a case without what varies.
type kind struct {
	id       string
	name     string
	protocol Protocol
	qos      int
	storage  string
	sync     bool
	window   bool // Inflight varies
	open     bool // measured in open loop too
	servers  []string
}

// kinds are in the order of a round: brokers tell their counters every two
// seconds, so that cases with MQTT and without alternate.
var kinds = []kind{
	{id: "mqtt/qos0", name: "MQTT QoS 0", protocol: MQTT, open: true, servers: []string{hostMQTT}},
	{id: "nats/core", name: "NATS core", protocol: NATSCore, open: true, servers: []string{hostNATS}},
	{id: "mqtt/qos1", name: "MQTT QoS 1", protocol: MQTT, qos: 1, window: true, open: true, servers: []string{hostMQTT}},
	{id: "jetstream/memory/sync", name: "JetStream memory, sync", protocol: JetStream, storage: "memory", sync: true, servers: []string{hostNATS}},
	{id: "mqtt/qos2", name: "MQTT QoS 2", protocol: MQTT, qos: 2, window: true, open: true, servers: []string{hostMQTT}},
	{id: "jetstream/memory/async", name: "JetStream memory, async", protocol: JetStream, storage: "memory", window: true, open: true, servers: []string{hostNATS}},
	{id: "pipeline", name: "MQTT QoS 1 → log → JetStream", protocol: Bridge, qos: 1, window: true, open: true, servers: []string{hostMQTT, hostPipeline, hostNATS}},
	{id: "jetstream/file/sync", name: "JetStream file, sync", protocol: JetStream, storage: "file", sync: true, servers: []string{hostNATS}},
	{id: "jetstream/file/async", name: "JetStream file, async", protocol: JetStream, storage: "file", window: true, open: true, servers: []string{hostNATS}},
	{id: "jetstream/file-always/sync", name: "JetStream file, sync", protocol: JetStream, storage: "file", sync: true, servers: []string{hostAlways}},
	{id: "jetstream/file-always/async", name: "JetStream file, async", protocol: JetStream, storage: "file", window: true, open: true, servers: []string{hostAlways}},
}

// instruments measure what the instrument itself can do: publishing only.
var instruments = []kind{
	{id: nullRoot + "mqtt/qos0", name: "our MQTT QoS 0 publisher", protocol: MQTT, servers: []string{hostNullMQTT}},
	{id: nullRoot + "mqtt/qos1", name: "our MQTT QoS 1 publisher", protocol: MQTT, qos: 1, window: true, servers: []string{hostNullMQTT}},
	{id: nullRoot + "mqtt/qos2", name: "our MQTT QoS 2 publisher", protocol: MQTT, qos: 2, window: true, servers: []string{hostNullMQTT}},
	{id: nullRoot + "nats/core", name: "our NATS core publisher", protocol: NATSCore, servers: []string{hostNullNATS}},
	{id: nullRoot + "jetstream/async", name: "our JetStream async publisher", protocol: JetStream, window: true, servers: []string{hostNullNATS}},
}

// references compare our publishers with those that everyone has, at the same
// server.
var references = []kind{
	{id: refOurNATS, name: "our NATS core publisher", protocol: NATSCore, servers: []string{hostNATS}},
	{id: refBareNATS, name: "a bare nats.go publisher", protocol: NATSCore, servers: []string{hostNATS}},
	{id: refOurMQTT, name: "our MQTT QoS 1 publisher", protocol: MQTT, qos: 1, window: true, servers: []string{hostMQTT}},
	{id: refMosquitto, name: "mosquitto_pub -q 1 -l", protocol: MQTT, qos: 1, servers: []string{hostMQTT}},
}

const (
	refOurNATS   = referenceRoot + "nats/ours"
	refBareNATS  = referenceRoot + "nats/bare"
	refOurMQTT   = referenceRoot + "mqtt/ours"
	refMosquitto = referenceRoot + "mqtt/mosquitto_pub"
)

// shape is how many publish and subscribe.
type shape struct{ publishers, subscribers int }

func (s shape) String() string { return fmt.Sprintf("%d→%d", s.publishers, s.subscribers) }

// shapes are all that are asked for, each once.
func (c *Config) shapes() (all []shape) {
	add := func(s shape) {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	for _, n := range c.Clients {
		add(shape{n, n})
	}
	for _, n := range c.FanIn {
		add(shape{n, 1})
	}
	for _, n := range c.FanOut {
		add(shape{1, n})
	}
	return all
}

// Cases is how many cases c makes.
func (c *Config) Cases() int { return len(c.plan()) }

// plan is every case, in the order of a round.
func (c *Config) plan() (cases []*Case) {
	for _, k := range kinds {
		if k.servers[0] != hostAlways || c.NATS == "" { // a given server has one setting
			cases = append(cases, c.sweep(k, Throughput, 0)...)
		}
	}
	for _, rate := range c.Rates {
		for _, k := range kinds {
			if k.open && (k.servers[0] != hostAlways || c.NATS == "") {
				cases = append(cases, c.sweep(k, Latency, rate)...)
			}
		}
	}
	alone := Config{Inflight: []int{slices.Max(c.Inflight)}, Topics: c.Topics[:1], Sizes: c.Sizes, Duration: c.Duration, Match: c.Match}
	for _, k := range instruments {
		cases = append(cases, alone.sweep(k, Throughput, 0)...)
	}
	alone.Sizes = c.Sizes[:1]
	for _, k := range references {
		if scheme, _, _ := strings.Cut(c.MQTT, "://"); k.id == refMosquitto && dial.WebSocket(scheme) {
			continue // which mosquitto_pub does not speak
		}
		cases = append(cases, alone.sweep(k, Throughput, 0)...)
	}
	return cases
}

// sweep is a kind with everything that varies.
func (c *Config) sweep(k kind, mode Mode, rate float64) (cases []*Case) {
	shapes := c.shapes()
	if len(shapes) == 0 {
		shapes = []shape{{1, 0}}
	}
	windows := []int{0}
	if k.sync {
		windows = []int{1}
	} else if k.window {
		windows = c.Inflight
	}
	for _, size := range c.Sizes {
		for _, s := range shapes {
			for _, window := range windows {
				for _, topics := range c.Topics {
					v := &Case{
						ID: k.id, Name: k.name, Protocol: k.protocol, QoS: k.qos, Storage: k.storage, Sync: k.sync,
						Mode: mode, Offered: rate, Size: size, Inflight: window, Topics: topics, Servers: k.servers,
						Publishers: s.publishers, Subscribers: s.subscribers, Fan: s.String(), Duration: c.Duration, Rounds: []Round{},
					}
					v.vary("size", len(c.Sizes), size)
					v.vary("inflight", len(windows), window)
					v.vary("topics", len(c.Topics), topics)
					if len(shapes) > 1 {
						v.ID += fmt.Sprintf("/fan=%d-%d", s.publishers, s.subscribers)
					}
					if mode == Latency {
						v.ID += fmt.Sprintf("/rate=%g", rate)
					}
					if mode == Latency || s.subscribers == 0 {
						v.Duration /= 2
					}
					if c.Match == nil || c.Match.MatchString(v.ID) || c.Match.MatchString(k.id) {
						cases = append(cases, v)
					}
				}
			}
		}
	}
	return cases
}

// vary adds a value to the ID where there are several.
func (c *Case) vary(name string, values, value int) {
	if values > 1 {
		c.ID += fmt.Sprintf("/%s=%d", name, value)
	}
}
