// Package client is the MQTT client of the command line tools, for MQTT 5 and
// 3.1.1. Its invariant: what it reports as acknowledged the broker has
// acknowledged, and what it acknowledges to the broker has been taken by the
// caller (see Options.Flush).
//
// It is small on purpose: one connection, no reconnect, no store of unfinished
// messages. One goroutine reads, one writes; publishing only appends to a
// buffer, so that a run of small messages leaves in few system calls. Sources
// of the pipeline do not use it; they have a data plane of their own (ingest).
package client
