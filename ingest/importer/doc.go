// Package importer reads recordings of other programs, and exports of this one,
// into the log: JSON, mosquitto_sub's output, CSV, plain or compressed.
//
// Its invariant: how far a file has been read is kept in the log, in the
// transaction of the records that were read from it. After a kill at any moment
// the log says exactly which lines are in, and an import that is resumed reads
// each line once, or ends with ErrChanged before it reads any: what was read is
// not the beginning of the file, or its last line had no end and has grown.
//
// What could be read in two ways is not guessed: it is rejected with the option
// that decides. A line that cannot be read stops nothing. It is written down with its number
// and the reason: in a file of the input's own, or in one that several share,
// each line there beginning with its input, and what is another's is kept.
package importer
