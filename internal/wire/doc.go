// Package wire holds the rules by which a packet of MQTT 3.1.1 or 5 that a
// server sends is well formed. Its invariant: a packet that one reader refuses
// every reader refuses, with the same words; the sources of the pipeline and the
// command line tools read by it.
//
// It keeps nothing and, but for errors, allocates nothing: what it returns points
// into the bytes it was given.
package wire
