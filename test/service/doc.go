// Package service runs mqttetl as a process, as its users do: it builds the
// program from the checkout, starts and ends it, and asks it how far it has come.
// Tests and benchmarks share it.
package service
