// Package replay plays records back as a stream: at the pace of the recording,
// faster, or as fast as they are taken, to NATS, JetStream, MQTT or as lines.
//
// Its invariant: records are sent in the order of Seq, each once while nothing
// fails, and a position is recorded only when the destination has confirmed
// everything up to it. What a replay sends is a function of the records and of
// its settings: played twice, the bytes and their order are the same.
//
// # Resuming
//
// A Resume file holds the position. It is written in place as confirmations
// come, so that it survives SIGKILL, and synced four times a second, so that a
// power cut takes back a quarter of a second at most. Nothing that was not
// confirmed is ever skipped. What may come twice after a SIGKILL is what was
// under way, and differs with what the destination can do:
//
//   - JetStream: nothing. Each message names the one that it must follow (see
//     package forward), and where to go on is read from the stream itself, by
//     a key that stands in the file: only who has the file can prove which messages are its own.
//   - MQTT QoS 1 and 2: what was in flight, at most the broker's receive
//     maximum. A new session begins, so QoS 2 cannot do better either.
//   - Core NATS: what was sent since the server last answered, at most 16,384.
//   - Lines: what was written since the last position.
package replay

import (
	"context"

	"github.com/mqttetl/mqttetl"
)

// Ahead is how many calls of a Source's Next it takes until nothing of what the
// first of them has returned is in use: one chunk is played, the next one waits,
// and the one behind it is read.
const Ahead = 3

// Source is where records come from. What Next returns is valid until it has been
// called Ahead times more; io.EOF is the end.
type Source interface {
	Next(ctx context.Context) ([]mqttetl.Record, error)
}

// Destination takes records and confirms them in their order. Send, Flush and
// Drain are called by one goroutine. An error of any of them is final, and so
// is one that it reports on its own account to the function it was opened with.
type Destination interface {
	// Send takes a record; it waits while too many are unconfirmed. It has copied
	// what it needs of it when it returns. An error that is about this record alone, which
	// others would pass, is a Refusal.
	Send(ctx context.Context, r *mqttetl.Record) error
	// Flush lets what was sent leave at once: nothing may follow for a while.
	Flush(ctx context.Context) error
	// Drain waits until everything that was sent is confirmed or refused.
	Drain(ctx context.Context) error
	// Close gives the connection back.
	Close() error
}

// Confirm is called by a Destination, from any goroutine but in order, when all
// records up to upTo are confirmed, n of them since the call before. It may be
// called with the Destination's lock held, and does not call it.
type Confirm func(upTo mqttetl.Seq, n int)

// RefusedError is the answer of a destination to one record that it will never take.
type RefusedError struct {
	Seq mqttetl.Seq
	Err error
}

func (r *RefusedError) Error() string {
	return "record " + seqText(r.Seq) + " is refused: " + r.Err.Error()
}
func (r *RefusedError) Unwrap() error { return r.Err }
