// Package simulate makes the messages of devices: topics and payloads as real
// firmware and bridges send them, at a rate, with jitter and in bursts. Its
// invariant: a scenario with its seed and start time is one sequence of
// messages, byte for byte, wherever and however fast it is sent.
//
// A Fleet yields the messages of all devices in the order of their times, a
// Device those of one. Run sends a fleet's messages to a Target at their times
// and counts what the target has confirmed.
package simulate
