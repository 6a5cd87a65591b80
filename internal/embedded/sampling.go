//go:build !race

package embedded

import (
	"strings"
	_ "unsafe" // for linkname
)

// procStatFile is what nats-server's package pse reads once a second, from the start of each
// program that holds it, although a service never starts a server. It ends when it cannot read
// it. The race detector would be right that it is set here without a lock: so there is no file
// of the new name, and it is as long as the old one, because a read beside this may see the
// length of one and the text of the other. What an embedded server says of its CPU and
// memory (varz) is 0, then.
//
//go:linkname procStatFile github.com/nats-io/nats-server/v2/server/pse.procStatFile
var procStatFile string

func init() {
	const proc = "/proc/"
	procStatFile = proc + strings.Repeat("-", max(0, len(procStatFile)-len(proc)))
}
