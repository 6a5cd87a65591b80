// Package ingest receives messages from MQTT brokers. Its invariant: a PUBACK
// (for QoS 2 a PUBREC) leaves only after its record is on disk.
//
// A Source is one configured broker; it keeps one link for each of its
// connections. The work of a connection is split in two:
//
//	                      ┌──── control plane: CONNECT, SUBSCRIBE, keepalive (paho) ◀─┐
//	broker ══ net.Conn ══▶ conn                                                       │
//	                      │   ├─ every frame but PUBLISH and PUBREL ──────────────────┘
//	                      │   └─ PUBLISH ─▶ batch ─▶ Log ─▶ Done (▶ ack writer) ┐
//	                      ◀──────────────────────── PUBACK, PUBREC, PUBCOMP ────┘
//
// The conn parses frames in the control plane's own call of Read, from a large
// buffer, and copies PUBLISH into the open batch; the control plane never sees
// one. A batch is handed to the log before the conn waits for more bytes. Done
// writes the acknowledgements itself where the socket takes them at once; the
// ack writer, a goroutine of the conn, has what is left (acks.go).
// What has been handed over and is not yet on disk is bounded; beyond the
// bound the conn stops reading, and TCP makes the broker wait.
//
// What MQTT 5 and 3.1.1 do differently stands behind the interface plane; a
// further version is a further plane.
//
// What it cannot promise: QoS 0 has no acknowledgement, and a redelivered QoS 1
// message (after a lost PUBACK) becomes a second record, because nothing on the
// wire tells it from a new one safely.
package ingest
