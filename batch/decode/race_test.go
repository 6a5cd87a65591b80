//go:build race

package decode

// slowdown is what the race detector costs at most, in memory and in time: values
// that stay on the stack without it are allocated. make test measures without it, too.
const slowdown = 8
