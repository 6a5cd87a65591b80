//go:build !race

package decode

const slowdown = 1
