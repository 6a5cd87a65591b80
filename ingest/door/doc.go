// Package door is the front door: devices connect to it instead of to a broker. It is
// the server side of MQTT 3.1, 3.1.1 and 5. Its invariant: the PUBACK (for QoS 2 the
// PUBREC) that a device reads means that its message is on disk, and nothing
// is recorded of a client that may not publish it. Before MQTT 5 a refusal has no
// reason code. So two kinds of messages are acknowledged and not recorded: those on
// topics that begin with $, and denied ones where Config.AcknowledgeDenied says so.
//
//	device ══ conn ══▶ CONNECT: password_file, acl_file (package access)
//	                       │ a member: one session, over one connection after the other
//	                       ▼
//	                   session.Conn ─▶ Log        the client is its control plane and its judge
//
// What devices connect through (TCP, TLS, Unix sockets) is transport.go; all after it
// sees a net.Conn.
//
// It receives and hands on; it keeps nothing for subscribers who are away, and it
// is no message bus.
//
// A session belongs to the authenticated user and the client id. What it has that outlives a
// connection: the packet ids of QoS 2, which are in the log's environment and so
// outlive the process too, and in memory what its last messages of QoS 1 were, by which one that is
// sent again is known (session.Config.Recognised).
//
// What strangers can take is bounded: connections, sessions of clients that are
// away, what all of them together have handed to a log that cannot store it, the
// time until CONNECT, and guesses at passwords. No memory is claimed by a length before its
// bytes have come.
package door
