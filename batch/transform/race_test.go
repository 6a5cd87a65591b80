//go:build race

package transform

// underRace: the race detector takes memory of its own, and a worker may come to
// the end of its memory before it comes to what a test wants it to.
const underRace = true
