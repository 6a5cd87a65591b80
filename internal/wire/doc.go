// Package wire holds what a packet of MQTT 3.1, 3.1.1 and 5 is, in both
// directions: how it is written, and the rules by which one that comes is well
// formed. Its invariant: a packet that one reader refuses every reader refuses,
// with the same words; sources, command line tools and the benchmark read and
// write by it.
//
// But for Input, a buffer, it keeps nothing. On the way of a message (FixedHeader,
// PublishHead, ReadAck, Message, AppendAck) it allocates nothing but errors: what
// it returns points into the bytes it was given.
package wire
