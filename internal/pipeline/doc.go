// Package pipeline puts the parts of the program together.
package pipeline

// The consumers of the log, by which its files and the metrics know them.
const (
	Archive = "archive"
	NATS    = "nats"
	Publish = "publish"
)
