//go:build 386 || arm || mips || mipsle

package wal

// LMDB maps the whole log, which may have many gigabytes, and lays its pages out
// otherwise there: the checks of this package know those of 64 bits.

/*
#error mqttetl needs a 64-bit machine: the log is mapped into the address space as a whole
*/
import "C"
