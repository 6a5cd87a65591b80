//go:build !race

package embedded

import _ "unsafe" // for linkname

// procStatFile is what nats-server's package pse reads once a second, from the start of each
// program that holds it, although a service never starts a server. It ends when it cannot read
// it. The race detector would be right that it is set here without a lock.
//
//go:linkname procStatFile github.com/nats-io/nats-server/v2/server/pse.procStatFile
var procStatFile string

func init() { procStatFile = "" }
