package transform

import (
	"strings"
	"time"

	"github.com/mqttetl/mqttetl"
)

// Unborn is an edge node of Sparkplug whose birth a route with Rebirth is missing.
type Unborn struct {
	Source, Group, Node string
	Time                int64 // of the message that says so
	Every               time.Duration
}

// Object is one to be published.
type Object struct {
	Route   string
	Seq     mqttetl.Seq
	N       int // counts the objects that a route makes of one record, from 0
	Subject string
	Body    []byte // JSON
}

// Failure is a record that a route could not make rows of; with Nulls it has a
// row with NULLs instead.
type Failure struct {
	Route string
	Seq   mqttetl.Seq
	Err   error
	Nulls bool
	Part  string // the documents that it is about, see Part; "": all of the record
}

// DeadLetter is the failure as the archive keeps it: one for a record and route.
func (f *Failure) DeadLetter() mqttetl.DeadLetter {
	reason := oneLine(f.Err)
	if f.Part != "" {
		reason = f.Part + ": " + reason
	}
	return mqttetl.DeadLetter{Seq: f.Seq, Stage: mqttetl.TransformStage(f.Route), Reason: reason, Time: time.Now().UnixNano()}
}

// reasonLimit keeps a payload out of the dead letters.
const reasonLimit = 500

func oneLine(err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	if len(s) > reasonLimit {
		s = strings.ToValidUTF8(s[:reasonLimit], "") + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// Stats count what a route has done since the Applier was made.
type Stats struct {
	Route   string
	Rows    uint64
	Errors  uint64        // records
	Time    time.Duration // an estimate: of routes without jq only some records are timed
	SeqGaps uint64        // Sparkplug: times that seq did not follow its predecessor
	Mended  uint64        // records with rows although something was wrong with their payload
	Unset   uint64        // records with rows whose time was that of a clock that is not set
	Skipped uint64        // readings: values that are none, although they are numbers; payloads that are no JSON, but begin so
}
