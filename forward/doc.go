// Package forward publishes the records of the log to a NATS JetStream stream:
// every record once, in order, without holes, each confirmed by JetStream
// before the cursor moves past it.
//
// # What a message must follow
//
// Every message carries its Nats-Msg-Id, <log id>-<seq>, and says which message
// of the stream it must directly follow; the server refuses it anywhere else. There
// are two ways to say that.
//
// By number (Nats-Expected-Last-Sequence), in a cluster: the stream must end with
// that number. The leader compares before it proposes the message, and counts what
// it has proposed and not stored yet; followers store what has been agreed on.
//
// By name (Nats-Expected-Last-Msg-Id), on a server that stands alone: the stream
// must end with the record before. In a cluster this must not be used, whatever the
// number of replicas is now: every replica compares for itself when it stores, and
// one that has caught up from its leader does not know the last id. It refuses the
// message that the others have stored, and takes nothing any more. A stream of one
// replica in a cluster can be given more at any moment, with messages under way;
// a server that stands alone must be started anew for that, which ends the connection.
//
// With either, as long as nobody else writes:
//
//   - Order. Record b is stored directly after its predecessor a, or not at all.
//     By number: the stream ends where b says only if a has been stored, since
//     each message before has the one number at which it can be. This holds
//     when a is refused and b would not be (a full stream has room for a small
//     message after a large one that it refused), when a leader steps down and
//     drops what it has not proposed, when a new leader lacks proposals of the old
//     one that no majority had, and when the stream is deleted and made again, or
//     put back to an older state, in the middle.
//   - No duplicates. Once b is stored the stream ends after it, so a second copy
//     of b is refused, whether the server's duplicate window has forgotten b or
//     not. Such copies exist: after a lost connection a server may still be
//     reading what was sent on it, while a new one begins. By number there is one
//     exception: if a record before b has become a dead letter meanwhile, b is
//     stored one number earlier than its copy says, and a copy that arrives
//     at this moment fits. The duplicate window catches it, unless it is over.
//
// By name one acknowledgement speaks for all messages before it, as long as nobody
// else writes. So only every 64th message asks for one, and of messages that come
// together the first and the last. That saves about 40 % of the CPU of client and
// server, which is why the way by name is kept.
//
// # Other writers
//
// Whoever may publish to the stream's subjects can put messages among ours. Such a
// message may have the id of a record, copied or made up, so an id proves nothing. Each
// of our messages has a tag (Mqtt-Tag). It is made with a key that only the log holds, from
// the record's number and the message's number in the stream. The latter is known
// in advance, since a message is stored at its place or not at all. Nobody can make a
// tag without the key, and a copy of a message stands at another place. What others
// can do, and what comes of it:
//
//   - They can lie about the position. It is that of the newest message whose tag is right
//     for its place; since it is there, all before it are. A later message with the id
//     of a record counts for nothing, unless it has the record's content as well and
//     comes in turn: earlier builds made no tags, and may have been killed before they stored
//     the position in the log. If nothing is proven (the stream is empty or another one, or
//     its last 65,536 messages are of others), forwarding goes on after the position in the log.
//   - They can use the id of a record that is not published yet. The server then calls the
//     record a duplicate. The forwarder reads the message that has the id. If it is
//     not the record, the record gets another id with the same number: one with a zero before
//     it. After eight such ids the record waits until the duplicate window is over. A message that
//     has been deleted since proves nothing: the record is published under another id, unless it
//     was confirmed before. So who takes messages out of the stream before their acknowledgement
//     has come, as workers of a work queue do, may get some twice after a lost connection.
//     By name, a message with the record's id directly before the record would
//     go unnoticed if the record asked for no acknowledgement. So every record asks for one
//     once a message of another writer has been seen.
//   - They can copy the last message when the window is over. The copy has the id that the
//     next message must follow by name. The acknowledgement then has another number than
//     the one that is due, which ends the attempt.
//
// A stream that is ahead of the log by a valid tag is no lie: the log was put back to an
// older copy. The forwarder waits and says so; other records must not get the same ids.
//
// Others can still do harm. By name, they can have one record left out: the first message that
// they ever publish to the stream must arrive between two that we have sent together, and
// have the id of the second. They can make forwarding slow, because each attempt that
// they end costs time. They can fill the stream. If they may publish to our inbox or to the
// server's API, they can forge answers. Permissions are the remedy: let them publish to
// nothing below the prefix, and not to _INBOX.> or $JS.API.>.
//
// By name, a message of another writer costs an attempt and does no other harm.
//
// By number it can stand in the place of a record: then a, which says that it follows
// number 7, is refused, and b, which says 8, is stored. So every message asks for an
// acknowledgement, and they must come in turn, each with the number after the one
// before: the cursor never passes a record that is not in the stream. An
// acknowledgement out of turn ends the attempt. The next one reads the end of the
// stream back to the cursor, or as far as there can have been messages in
// flight when the process was killed. If it finds messages of others among ours, it
// publishes what is missing, each with the header Mqtt-Late: the record after which
// it stands although it is the earlier one. Nothing is lost or doubled. From then on
// messages go one at a time for a while, which keeps their order too. What it cannot
// find is a message of another writer that is gone again before it looks.
//
// Some streams delete from their middle: those that keep so many messages a subject and no more,
// work queues, those with an end for each message, or with roll-ups. There every message asks for an acknowledgement,
// by name too. Where one did not come in its turn, what is gone after the cursor counts as another writer's,
// and the records are published late. Where none came, because the connection was lost, records
// before others that are in the stream are taken for stored. That is counted
// (mqttetl_nats_passed_messages_total) and said: to publish them again would put older values
// after newer ones each time.
//
// # Attempts
//
// Records go out in attempts. An attempt asks where the stream ends, turns the
// log to the record after that, and sends one message alone; its answer shows
// that the stream still ends there, and whether something is the matter with this
// very record. Then it sends as fast as the window allows. The first error of any
// kind ends it (go-back-N); what was in flight and has landed is found by the
// next attempt in the stream, the rest is sent again. An error on the way, an
// acknowledgement overdue, a restart of this process, of the server, and an
// outage longer than the duplicate window are thus one path.
//
// The messages are written past nats.go, which has no way to publish a header that
// is encoded already; it keeps the connection for all else. What the server sends is
// checked before nats.go reads it, which trusts it with the process's memory (internal/dial).
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
// Publisher publishes the objects that routes make of records. It is a consumer of
// its own, so that neither waits for the other, and its messages do not say what they
// follow: they are de-duplicated by Nats-Msg-Id (DESIGN.md, section 9), which the
// leader does before it proposes them. So replicas are equal there, too. What the
// server calls a duplicate is read, and published under another id if it is something else, or gone.
// What is gone since a later object of its subject has come, and may have been sent before, is taken for published, and counted.
//
// # What an acknowledgement is worth
//
// A single server acknowledges before it syncs its files (sync_interval, 2
// minutes by default): it may lose in a power cut what it confirmed. When it
// comes back with less than the cursor says, what the log still holds is published
// again and a warning names the numbers.
//
// A replica can be stuck while the others go on and the stream looks well: earlier builds
// did that to replicas that caught up, see above. The log names it, with what is to
// be done.
package forward
