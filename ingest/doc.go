// Package ingest receives messages from MQTT brokers. Its invariant: a PUBACK
// (for QoS 2 a PUBREC) leaves only after its record is on disk.
//
// A Source is one configured broker; it keeps one link for each of its
// connections. A link dials, chooses the version, and makes a new connection when
// one has ended. The work of a connection is split in two:
//
//	                      ┌──── control plane: CONNECT, SUBSCRIBE, keepalive (paho) ◀─┐
//	broker ══ net.Conn ══▶ conn                                                       │
//	                      │   ├─ every frame but PUBLISH and PUBREL ──────────────────┘
//	                      │   └─ PUBLISH ─▶ data plane ─▶ Log                     (session)
//	                      ◀───────────────────── PUBACK, PUBREC, PUBCOMP ◀─ Done ─┘
//
// The data plane is package session, which knows no link: its comment says where
// a PUBACK leaves. Its frames are parsed in the control plane's own call of Read,
// so there is one reader; the control plane never sees a PUBLISH.
//
// What MQTT 5 and 3.1.1 do differently is in the interface plane; a further
// version is a further plane.
package ingest
