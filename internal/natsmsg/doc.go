// Package natsmsg says how a record is a message of NATS, and how the message is
// read back: the subject, the headers, and what proves its place in a stream.
//
// Its invariant: subject and headers are a function of the record alone, one-to-one,
// so that the topic can be computed back; what a message must follow is separate.
package natsmsg
