// Package brokers holds no code: its tests run mqttetl against every broker
// that the table in docs/operate.md names, one suite for all of them. The brokers that
// npm or a large package brings are tested with the build tag brokers, by
// make test-brokers.
package brokers
