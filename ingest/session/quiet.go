package session

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// quiet is how a connection comes to rest before it is ended: the reader
// takes no more messages, what it has handed over is committed and acknowledged,
// the sender is told goodbye, and the connection closes when the sender has read
// that and closed its side. Closing at once would not do: with PUBLISHes unread,
// TCP resets the connection, and the sender may never see acknowledgements that
// have been sent.
//
// The reader is not woken for it: a read deadline would, but a WebSocket cannot
// be used after one. A reader that waits for bytes is at rest as it is. What it
// reads from then on is thrown away, and is delivered again.
type quiet struct {
	wanted  atomic.Bool
	reading atomic.Bool   // the reader waits for bytes, and looks at wanted when they have come
	parked  chan struct{} // closed when it takes no more messages
	drained chan struct{} // closed when the sender has closed its side
}

func newQuiet() quiet {
	return quiet{parked: make(chan struct{}), drained: make(chan struct{})}
}

// park is where the reader ends up when quiet is wanted. It returns when the
// connection is closed.
func (c *Conn) park() {
	close(c.quiet.parked)
	_, _ = io.Copy(io.Discard, c.nc)
	close(c.quiet.drained)
	<-c.closed
}

// Quiesce brings the connection to rest, within most, and says goodbye with a
// packet. It waits for commits as long as settle; the rest is for the goodbye. What
// is not committed by then is not acknowledged, and will be delivered again
// (committed is false). heard says that the sender has read everything, and closed
// its side.
func (c *Conn) Quiesce(settle, most time.Duration, goodbye []byte) (committed, heard bool) {
	commits, all := time.NewTimer(settle), time.NewTimer(most)
	defer commits.Stop()
	defer all.Stop()
	cut := time.AfterFunc(most, func() { c.Fail(net.ErrClosed) }) // writes too, if the sender does not read
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
		return false, false
	}
	c.Log.Hurry()
	committed = true
	for changed := c.window.next(); committed && !c.window.empty(); changed = c.window.next() {
		committed = wait(changed, commits)
	}
	c.writer.flush()
	c.writer.sayGoodbye(goodbye)
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && c.reader.judge != nil {
		_ = half.CloseWrite() // not every client closes at our word, and before MQTT 5 there is none
	}
	return committed, wait(c.quiet.drained, all)
}
