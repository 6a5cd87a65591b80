package compare

import (
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// Schema is the version of the JSON form of Report. It changes when a field
// changes its meaning or is deleted; new fields do not change it.
const Schema = 1

// What bench shares with other measurements.
type (
	Machine   = instrument.Machine
	Spread    = instrument.Spread
	Quantiles = instrument.Quantiles
)

// Report is one run of mqttetl bench.
type Report struct {
	Schema   int           `json:"schema"`  // Schema
	Version  string        `json:"version"` // of mqttetl
	Run      string        `json:"run"`     // identifies the run in topics, subjects and the stream's name
	Started  time.Time     `json:"started"`
	Took     time.Duration `json:"took_ns"`
	Command  string        `json:"command"` // repeats the run, quoted for a shell
	Machine  Machine       `json:"machine"`
	Servers  []Server      `json:"servers"`
	Rounds   int           `json:"rounds"`      // asked for; a case has as many Rounds as are complete
	Duration time.Duration `json:"duration_ns"` // of publishing, of a throughput case in a round; Case.Duration is what each had
	Cases    []Case        `json:"cases"`       // in the order of their first round

	// Interrupted: Ctrl-C ended the run early; the round that ran is not in it.
	Interrupted bool `json:"interrupted"`
	// Notes are sentences about the run that a reader must know: servers that
	// were not found, leftovers of a killed run that were removed, …
	Notes []string `json:"notes"`
}

// Server is one that took part.
type Server struct {
	ID      string `json:"id"`      // what Case.Servers names: "mqtt", "nats", "nats-always", "pipeline", "null-mqtt", "null-nats"
	Kind    string `json:"kind"`    // "mosquitto", "mochi", "nats-server", "mqttetl", "null server", "MQTT broker"
	Version string `json:"version"` // "" unknown
	// How it came to run: "started, found as /usr/sbin/mosquitto", "started,
	// built in, a process of its own", "given".
	How string `json:"how"`
	URL string `json:"url"`
	PID int    `json:"pid"` // 0: of another machine or user, no CPU is measured
	// Config is the text of its configuration file, or its settings one a line;
	// "" where it is a given server's own.
	Config string `json:"config"`
}

// Class is a kind of durability. Cases of different classes must not be ranked
// in one list.
type Class string

// What an acknowledgement is worth.
const (
	Unacknowledged Class = "unacknowledged" // at most once: nobody says that it has arrived
	InMemory       Class = "memory"         // acknowledged in memory
	Written        Class = "written"        // written, not synced
	Synced         Class = "synced"         // synced before the acknowledgement
	Pipeline       Class = "pipeline"       // the pipeline: Durability.Text says what is acknowledged where
	Unknown        Class = "unknown"
	Instrument     Class = "instrument" // null servers and other people's publishers: no comparison of servers
)

// Classes in the order in which a report shows them.
var Classes = []Class{Unacknowledged, InMemory, Written, Synced, Pipeline, Unknown, Instrument}

// Durability is what the acknowledgement of a case is worth.
type Durability struct {
	Class Class `json:"class"`
	// Text is part of the case's name: "acknowledged in memory", "written, not
	// synced (sync_interval 2m)", "synced before the acknowledgement", ….
	Text string `json:"text"`
	// From is where this was read: "configuration", "/varz", "protocol", or why
	// it is unknown.
	From string `json:"from"`
}

// Protocol of a case.
type Protocol string

// The protocols.
const (
	MQTT      Protocol = "mqtt"
	NATSCore  Protocol = "nats"
	JetStream Protocol = "jetstream"
	Bridge    Protocol = "pipeline" // MQTT in, JetStream out
)

// Mode of a case.
type Mode string

// The modes.
const (
	// Throughput: as fast as the window allows; latencies are closed loop.
	Throughput Mode = "throughput"
	// Latency: a fixed rate in open loop, latencies from the intended send time.
	Latency Mode = "latency"
)

// Case is one thing that is measured, in every round.
type Case struct {
	// ID is unique in a run and the same in another run with the same flags:
	// "mqtt/qos1", "jetstream/file/async", with the values that a sweep varies:
	// "mqtt/qos1/size=1024/inflight=20", and "/rate=1000" in mode latency.
	ID string `json:"id"`
	// Name is for people and has the durability in it: "MQTT QoS 1 (acknowledged
	// in memory)"; without the values that a sweep varies.
	Name        string        `json:"name"`
	Protocol    Protocol      `json:"protocol"`
	QoS         int           `json:"qos"`     // of MQTT, and of the pipeline's publisher
	Storage     string        `json:"storage"` // of JetStream: "memory", "file"; else ""
	Sync        bool          `json:"sync"`    // JetStream: every message waits for its acknowledgement
	Durability  Durability    `json:"durability"`
	Mode        Mode          `json:"mode"`
	Offered     float64       `json:"offered_per_s"` // mode latency: messages a second of all publishers together
	Size        int           `json:"size_bytes"`    // of the payload
	Inflight    int           `json:"inflight"`      // unconfirmed messages of a publisher at most; 0: no confirmations
	Publishers  int           `json:"publishers"`
	Subscribers int           `json:"subscribers"` // 0: nobody subscribes, nothing is delivered
	Fan         string        `json:"fan"`         // "1→1", "10→10" (pairs), "10→1", "1→10", "1→0"
	Topics      int           `json:"topics"`      // of a publisher
	Duration    time.Duration `json:"duration_ns"` // of publishing in a round
	Servers     []string      `json:"servers"`     // Server.ID

	Rounds []Round `json:"rounds"` // the complete ones
	Error  string  `json:"error"`  // why a round failed or the case cannot run; "" none
	// Incomplete: there are fewer Rounds than asked for, by Error or by Ctrl-C.
	Incomplete bool `json:"incomplete"`
	// Loss: in some round a message was lost.
	Loss bool `json:"loss"`
	// Disagrees: in some round the broker counted other than we did.
	Disagrees bool `json:"disagrees"`

	Summary Summary `json:"summary"`
}

// Summary is a case over its rounds. Rates are messages a second, times
// nanoseconds unless named otherwise.
type Summary struct {
	PublishRate   Spread `json:"publish_per_s"`
	DeliveredRate Spread `json:"delivered_per_s"`
	ClientCPU     Spread `json:"client_cpu_us"` // a message sent
	ServerCPU     Spread `json:"server_cpu_us"` // a message sent, all servers of the case
	WireBytes     Spread `json:"wire_bytes"`    // a message sent
	Allocs        Spread `json:"allocs"`        // a message sent
	EndToEnd      Curve  `json:"end_to_end"`    // all rounds together
	Confirm       Curve  `json:"confirm"`       // all rounds together
	EndToEndP50   Spread `json:"end_to_end_p50_ns"`
	EndToEndP99   Spread `json:"end_to_end_p99_ns"`
	EndToEndP999  Spread `json:"end_to_end_p999_ns"`
	ConfirmP50    Spread `json:"confirm_p50_ns"`
	ConfirmP99    Spread `json:"confirm_p99_ns"`
	Lost          uint64 `json:"lost"`
	Duplicated    uint64 `json:"duplicated"`
	Reordered     uint64 `json:"reordered"`
	// Ratio of the publish rate to that of Base, taken round by round. Base is
	// the first case of the same class, mode and shape; "" for itself.
	Base  string `json:"base"`
	Ratio Spread `json:"ratio"`
	// Ceiling is the median publish rate that the instrument itself reaches
	// against a null server with the same protocol and size; 0: not measured.
	Ceiling float64 `json:"ceiling_per_s"`
}

// Round is one run of a case.
type Round struct {
	Round int       `json:"round"` // from 1
	Begun time.Time `json:"begun"`

	PublishRate   float64 `json:"publish_per_s"`   // confirmed ones, of QoS 0 and NATS core sent ones, until the last confirmation or flush
	DeliveredRate float64 `json:"delivered_per_s"` // of all subscribers, until the last delivery

	ClientCPU *float64           `json:"client_cpu_us"` // a message sent: publishers and subscribers; nil: not known
	ServerCPU map[string]float64 `json:"server_cpu_us"` // a message sent, by Server.ID; without those not known
	WireBytes float64            `json:"wire_bytes"`    // a message sent: both directions of all our connections
	Allocs    float64            `json:"allocs"`        // a message sent, of publishers and subscribers

	Sent      uint64 `json:"sent"`
	Unsent    uint64 `json:"unsent"`    // mode latency: due and not sent, because the case cannot keep up with the rate
	Confirmed uint64 `json:"confirmed"` // PUBACK, PUBCOMP, PubAck; 0 where there is none
	Refused   uint64 `json:"refused"`   // answered by a reason code or an error
	Window    int    `json:"window"`    // in flight that the server allowed a publisher, at most Case.Inflight; 0: no confirmations

	Expected   uint64 `json:"expected"`   // deliveries: sent, times its subscribers
	Delivered  uint64 `json:"delivered"`  // with duplicates
	Lost       uint64 `json:"lost"`       // expected and never delivered
	Duplicated uint64 `json:"duplicated"` // delivered again
	Reordered  uint64 `json:"reordered"`  // delivered after a later one of the same publisher and topic
	Foreign    uint64 `json:"foreign"`    // delivered, but of no publisher of this round

	EndToEnd Quantiles `json:"end_to_end"`
	Confirm  Quantiles `json:"confirm"`
	// Late is how much later than intended messages were sent, in mode latency.
	// It is part of EndToEnd and Confirm.
	Late Quantiles `json:"late"`

	Counters []Counter `json:"counters"` // the servers' own
	Agrees   bool      `json:"agrees"`   // all Counters do

	Samples []Sample `json:"samples"`
}

// Curve is a distribution of latencies as HDR plots draw it.
type Curve struct {
	Quantiles
	Points []Point `json:"points"` // by percentile, the last one is 100
}

// Point of a Curve: so many percent of the messages took at most Value.
type Point struct {
	Percentile float64 `json:"percentile"` // 0 to 100
	Value      int64   `json:"value_ns"`
}

// Counter is a number that a server keeps, before and after a round.
type Counter struct {
	Server string `json:"server"` // Server.ID
	// Name as the server has it: "$SYS/broker/publish/messages/received",
	// "/varz in_msgs", "/jsz messages".
	Name   string `json:"name"`
	Before uint64 `json:"before"`
	After  uint64 `json:"after"`
	Change int64  `json:"change"`
	Ours   int64  `json:"ours"` // what it must be by our own count
	Agrees bool   `json:"agrees"`
	Note   string `json:"note"` // why it does not, where known
}

// Sample is a piece of a round.
type Sample struct {
	At        int64   `json:"at_ns"`           // its end, since the round began to publish
	Published float64 `json:"published_per_s"` // in the piece; mean of the piece
	Delivered float64 `json:"delivered_per_s"`
}
