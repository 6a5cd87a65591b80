package ingest

import (
	"io"
	"sync/atomic"
	"time"
)

// quiet is how a connection comes to rest before its link stops: the reader
// takes no more messages, what it has handed over is committed and acknowledged,
// the broker is told goodbye, and the connection closes when the broker has read
// that and closed its side. Closing at once would not do: with PUBLISHes unread,
// TCP resets the connection, and the broker may never see acknowledgements that
// have been sent.
//
// The reader is not woken for it: a read deadline would, but a WebSocket cannot
// be used after one. A reader that waits for bytes is at rest as it is. What it
// reads from then on is thrown away, and is delivered again.
type quiet struct {
	wanted  atomic.Bool
	reading atomic.Bool   // the reader waits for bytes, and looks at wanted when they have come
	parked  chan struct{} // closed when it takes no more messages
	drained chan struct{} // closed when the broker has closed its side
}

func newQuiet() quiet {
	return quiet{parked: make(chan struct{}), drained: make(chan struct{})}
}

// park is where the reader ends up when quiet is wanted. It returns when the
// connection is closed.
func (c *conn) park() {
	close(c.quiet.parked)
	_, _ = io.Copy(io.Discard, c.nc)
	close(c.quiet.drained)
	<-c.closed
}

// quiesce brings the connection to rest, within the given time, and reports
// whether it did. Three quarters of it are for the commits, the rest for the
// goodbye. What is not committed by then is not acknowledged, and will be
// delivered again.
func (c *conn) quiesce(most time.Duration) bool {
	commits, all := time.NewTimer(most*3/4), time.NewTimer(most)
	defer commits.Stop()
	defer all.Stop()
	cut := time.AfterFunc(most, func() { _ = c.Close() }) // writes too, if the broker does not read
	defer cut.Stop()
	wait := func(event <-chan struct{}, until *time.Timer) bool {
		select {
		case <-event:
			return true
		case <-until.C:
		case <-c.closed:
		}
		return false
	}
	c.quiet.wanted.Store(true)
	if !c.quiet.reading.Load() && !wait(c.quiet.parked, commits) {
		return false
	}
	c.link.log.Hurry()
	committed := true
	for changed := c.link.window.next(); committed && !c.link.window.empty(); changed = c.link.window.next() {
		committed = wait(changed, commits)
	}
	c.flushAcks()
	c.sendDisconnect()
	return wait(c.quiet.drained, all) && committed
}
