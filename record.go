package mqttetl

import (
	"slices"
	"time"
)

// Seq numbers the records of one log. The first record is 1 and there are no
// holes: a record's Seq never changes and is never given to another record.
// Zero means "before the first record".
type Seq uint64

// Flags are the bits of the PUBLISH fixed header that are worth keeping:
// qos | retain<<2 | dup<<3. The same value is in the archive's flags column.
type Flags uint8

// The bits of Flags.
const (
	FlagRetain Flags = 1 << 2 // MQTT 5 §3.3.1.3
	FlagDup    Flags = 1 << 3 // MQTT 5 §3.3.1.1
)

// QoS is the quality of service of the delivery to us, 0 to 2: the lower of
// the publisher's and the subscription's (MQTT 5 §3.8.4).
func (f Flags) QoS() int { return int(f & 3) }

// Retain says whether the broker sent the message from its retained store (or,
// with retain-as-published, whether the publisher set RETAIN).
func (f Flags) Retain() bool { return f&FlagRetain != 0 }

// Dup says whether the broker marked the delivery as a redelivery.
func (f Flags) Dup() bool { return f&FlagDup != 0 }

// Message is an application message as it came from the broker. Topic, Payload
// and Properties are byte for byte what was on the wire; nothing is decoded,
// repaired or normalised. The slices belong to whoever hands the Message over
// and are valid only as long as that function says.
type Message struct {
	Topic      []byte
	Payload    []byte
	Properties Properties
	Flags      Flags
}

// Record is a Message with its place in the log.
type Record struct {
	Seq    Seq
	Time   int64  // receipt, Unix nanoseconds, UTC
	Source string // the name of the configured source
	Message
}

// When is Time as a time.Time in UTC.
func (r *Record) When() time.Time { return time.Unix(0, r.Time).UTC() }

// Clone copies the record with its bytes.
func (r *Record) Clone() Record {
	c := *r
	all := slices.Concat(r.Topic, r.Properties, r.Payload)
	t, p := len(r.Topic), len(r.Topic)+len(r.Properties)
	c.Topic, c.Properties, c.Payload = all[:t:t], Properties(all[t:p:p]), all[p:]
	return c
}

// DeadLetter is a record that a stage could not process and will not try again
// by itself. The record itself stays where it was; a dead letter only says why
// it went no further.
type DeadLetter struct {
	Seq    Seq
	Stage  string // StageForward, StageArchive, TransformStage or PublishStage
	Reason string // for a person, one line
	Time   int64  // Unix nanoseconds, UTC
}

// The stages of dead letters, whose names are made here and nowhere else.
const (
	StageForward = "forward" // the forwarder
	StageArchive = "archive" // the archive, of values that no row can hold
)

// TransformStage is the stage of what a route cannot make rows of.
func TransformStage(route string) string { return "transform:" + route }

// PublishStage is the stage of what a route publishes.
func PublishStage(route string) string { return "publish:" + route }
