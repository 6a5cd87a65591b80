// Package importer reads recordings of other programs, and exports of this one,
// into the log: NDJSON, mosquitto_sub's output, CSV, plain or compressed.
//
// Its invariant: how far a file has been read is kept in the log, in the
// transaction of the records that were read from it. After a kill at any moment
// the log says exactly which lines are in, and an import that is resumed reads
// each line once.
//
// A line that cannot be read is written to a file beside, with its number and
// the reason, and stops nothing.
package importer
