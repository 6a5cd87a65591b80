// Package embedded is the broker and the NATS server that are built in: those of the
// demo, and of mqttetl bench where none are installed.
package embedded
