// Package servers starts the brokers and servers that tests and benchmarks need, as
// processes: on 127.0.0.1, on free ports, with their files in a given directory, and
// gone when they are stopped or the process that started them ends.
package servers
