// Package compare is the engine of mqttetl bench: MQTT, NATS core, JetStream
// and the pipeline between them, measured with the same payloads, one after the
// other, in rounds.
//
// Its invariant: every message that is sent is accounted for. A rate stands
// next to what was lost, duplicated and reordered on the way, and next to what
// the acknowledgement that it counts is worth.
package compare
