// Package forward publishes the records of the log to a NATS JetStream stream:
// every record once, in order, without holes, each confirmed by JetStream
// before the cursor moves past it.
//
// # The chain
//
// Every message carries its Nats-Msg-Id, <log id>-<seq>, and in
// Nats-Expected-Last-Msg-Id that of the message sent before it. JetStream
// compares it with the last message of the stream under the lock under which
// it stores, and refuses a message whose predecessor is not the last one. From
// this follows all else:
//
//   - Order. Record b is stored directly behind its predecessor a, or not at
//     all. This holds when a is refused and b would not be (a full stream has
//     room for a small message behind a large one that it refused), when the
//     stream is deleted and made again in the middle, and when another writer
//     puts a message in between.
//   - No duplicates. Once b is stored, a is not the last message any more, so a
//     second copy of b is refused, whether the server's duplicate window has
//     forgotten b or not. Such copies exist: after a lost connection the server
//     may still be reading what was sent on it, while a new one begins.
//   - One acknowledgement speaks for all messages before it. So only every 64th
//     message, and the last one there is, asks for one, which saves the server
//     about as much work as the chain costs it.
//
// The sequence number of the stream instead (Nats-Expected-Last-Sequence) is
// cheaper by a few percent but does not make a chain: a message of another
// writer in the place of a refused one satisfies the expectation of the next.
// It is used for the first message of an attempt only, which has no
// predecessor in it: the stream must still end where it was found to end.
//
// # Attempts
//
// Records go out in attempts. An attempt asks where the stream ends, turns the
// log to the record behind that, and sends one message alone; its answer shows
// that the chain holds, and whether something is the matter with this very
// record. Then it sends as fast as the window allows. The first error of any
// kind ends it (go-back-N); what was in flight and has landed is found by the
// next attempt in the stream, the rest is sent again. An error on the way, an
// acknowledgement overdue, a restart of this process, of the server, and an
// outage longer than the duplicate window are thus one path.
//
// Over plain TCP the messages are written past nats.go, which has no way to
// publish a header that is encoded already; it keeps the connection for all else,
// and publishes itself where the bytes are encrypted or framed (TLS, WebSocket).
//
// Connections are never resumed: after an error a new one is made, and the old
// one is reset, so that its unsent bytes are dropped.
//
// # What cannot be forwarded
//
// A record that exceeds a limit of the server or the stream, or that JetStream
// refuses for a reason of its own while it takes others, becomes a dead letter
// and the cursor moves on. Everything else is tried again for ever, with
// backoff from 100 ms to 2 s.
//
// # What routes map
//
// Mapped publishes the objects that routes make of records. It is a consumer of
// its own, so that neither waits for the other, and its messages are not
// chained: they are de-duplicated by Nats-Msg-Id (DESIGN.md, section 9).
//
// # What an acknowledgement is worth
//
// A single server acknowledges before it syncs its files (sync_interval, 2
// minutes by default): it may lose in a power cut what it confirmed. When it
// comes back behind the cursor, what the log still holds is published again and
// a warning tells the numbers.
//
// The stream should have no other writer. Messages of others do no harm but
// each ends an attempt.
package forward
