// Package session is the data plane of MQTT: it receives the messages of one
// session, over one connection after the other. Its invariant: a PUBACK (for
// QoS 2 a PUBREC) leaves only after its record is on disk.
//
//	                    ┌──▶ Control: every packet but PUBLISH and PUBREL
//	sender ══ Conn ══▶ reader ─▶ batch ─▶ Log ─▶ Done ─┐
//	           ▲                                       │
//	           └── writer ◀── PUBACK, PUBREC, PUBCOMP ─┘
//
// It knows nobody who dials, logs in or reconnects: who sends, a broker that we
// subscribe to or a device that connects to us, is a matter of who owns the Conn.
// The owner calls Step. That parses what has come, copies PUBLISH into the
// open batch, hands the batch to the log, and waits for more bytes.
//
// A PUBACK leaves in the writer (writer.go). Done, on the goroutine that commits,
// writes the acknowledgements of its batch where the socket takes them at once;
// the writer's own goroutine has what is left, and all of TLS and WebSocket.
//
// Three small types keep the state: the reader has what one connection has
// brought and is not handed over, the writer's lock keeps packets and runs of
// acknowledgements whole, and the window bounds what the log has of a session
// and has not stored. Beyond that bound Step reads no more, and TCP makes the
// sender wait.
//
// What it cannot promise: QoS 0 has no acknowledgement, and a QoS 1 message that a
// broker sends again (after a lost PUBACK) becomes a second record, because packet
// ids are the broker's. One that a device sends again is known (Config.Recognised, again.go).
package session
