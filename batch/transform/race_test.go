//go:build race

package transform

// underRace: the race detector takes memory and time of its own, and a worker may come to
// the end of either before it comes to what a test wants it to.
const underRace = true
