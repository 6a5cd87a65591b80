package ingest

import (
	"io"
	"sync/atomic"
	"time"
)

// quiet is how a connection comes to rest before its link stops: the reader
// parks, what it has handed over is committed and acknowledged, the broker is
// told goodbye and reads that before the connection closes. Closing at once
// would not do: with PUBLISHes unread, TCP resets the connection, and the
// broker may never see acknowledgements that have been sent.
type quiet struct {
	wanted  atomic.Bool
	parked  chan struct{} // closed when the reader takes no more messages
	drain   chan struct{} // closed when it may read on to throw away
	drained chan struct{} // closed when the broker has closed its side
}

func newQuiet() quiet {
	return quiet{parked: make(chan struct{}), drain: make(chan struct{}), drained: make(chan struct{})}
}

// park is where the reader ends up when quiet is wanted. It returns when the
// connection is closed.
func (c *conn) park() {
	close(c.quiet.parked)
	select {
	case <-c.quiet.drain:
		_, _ = io.Copy(io.Discard, c.nc) // until the broker has closed, or the deadline
		close(c.quiet.drained)
	case <-c.closed:
	}
	<-c.closed
}

// quiesce brings the connection to rest, within the given time. What does not
// come to rest by then is cut off; it will be delivered again.
func (c *conn) quiesce(most time.Duration) {
	deadline := time.Now().Add(most)
	timeout := time.NewTimer(most)
	defer timeout.Stop()
	cut := time.AfterFunc(most+most/4, func() { _ = c.Close() }) // writes, if the broker does not read
	defer cut.Stop()
	wait := func(event <-chan struct{}) bool {
		select {
		case <-event:
			return true
		case <-timeout.C:
		case <-c.closed:
		}
		return false
	}
	c.quiet.wanted.Store(true)
	_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	if !wait(c.quiet.parked) {
		return
	}
	for changed := c.link.window.next(); !c.link.window.empty(); changed = c.link.window.next() {
		if !wait(changed) {
			return
		}
	}
	c.flushAcks()
	c.sendDisconnect()
	_ = c.nc.SetReadDeadline(deadline)
	close(c.quiet.drain)
	wait(c.quiet.drained)
}
