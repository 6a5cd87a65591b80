// Package pipeline puts the parts of the program together: run, demo and import
// use it, each with the parts that its configuration names.
//
//	Reporters                       what is said of the others, and asked of brokers
//	Sources    brokers, devices     ingest, ingest/door
//	             │ messages
//	Log          ▼
//	           log ─┬─▶ archive     batch, sink/archive
//	Consumers       ├─▶ nats        forward
//	                └─▶ publish     forward, with what a Mapper makes
//
// Its invariants: the log is told of no consumer that is not a part, since one
// that is never read keeps it from being trimmed. And parts stop layer by layer,
// the reporters first and the log last, because its last transaction stores how
// far the others have come.
//
// A part has a context of its own, so that it can be stopped, or another can take
// its place while the rest runs. Its metrics are made once: they are registered
// while a part counts in them, and what takes a part's place counts on.
package pipeline
