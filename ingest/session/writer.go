package session

import (
	"net"
	"sync"
	"time"
)

// A writer sends what one connection has to say: packets, and runs of
// acknowledgements. Each leaves in one piece, never inside another.
//
// The goroutine that commits writes the acknowledgements itself, as much of them
// as the socket takes at once (flushNow). It saves the way through another goroutine,
// which on a busy machine is longer than the commit. What is left is for run,
// and for whoever writes next: nothing else leaves before it.
type writer struct {
	nc     net.Conn
	socket *socket           // of nc, nil if there is something between: TLS, WebSocket
	closed chan struct{}     // when the connection has ended
	signal chan struct{}     // something is due that flushNow could not write
	leaves func(acks []byte) // before a run is written: the sender may answer at once
	wrote  func(acks []byte, came []int64, err error)
	due    ackQueue

	mu        sync.Mutex // one packet, or one run of acknowledgements
	acks      []byte     // the run that left last, or is leaving
	came      []int64
	left      int    // bytes of it that the socket has not taken
	unwritten []byte // runs that were due when nothing could leave any more
	goodbye   bool   // DISCONNECT has been sent, and nothing may follow (MQTT 5 §3.14.4)
}

func newWriter(nc net.Conn, closed chan struct{}, leaves func(acks []byte), wrote func(acks []byte, came []int64, err error)) *writer {
	return &writer{nc: nc, socket: newSocket(nc), closed: closed, signal: make(chan struct{}, 1), leaves: leaves, wrote: wrote}
}

// run writes what flushNow could not, until the connection is closed.
func (w *writer) run() {
	for {
		select {
		case <-w.signal:
			w.flush()
		case <-w.closed:
			return
		}
	}
}

// flush writes the acknowledgements of all batches committed so far. It waits
// for the socket.
func (w *writer) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finish() != nil || !w.next() {
		return
	}
	_, err := w.nc.Write(w.acks)
	w.told(err)
}

// flushNow writes what it can without waiting and leaves the rest to run.
func (w *writer) flushNow() {
	if !w.tryFlush() {
		select {
		case w.signal <- struct{}{}:
		default:
		}
	}
}

// tryFlush reports false if something is left that only run can write.
func (w *writer) tryFlush() (all bool) {
	if w.socket == nil || !w.mu.TryLock() {
		return false
	}
	defer w.mu.Unlock()
	if w.left > 0 {
		return false
	}
	if !w.next() {
		return true
	}
	n, err := w.socket.write(w.acks)
	if err == nil && n < len(w.acks) {
		w.left = len(w.acks) - n // it may begin inside a packet
		return false
	}
	w.told(err)
	return true
}

// next takes the run that is due and says whether there is one to write.
func (w *writer) next() bool {
	w.acks, w.came = w.due.take(w.acks, w.came)
	if len(w.acks) == 0 || w.goodbye || w.isClosed() {
		w.unwritten = append(w.unwritten, w.acks...)
		return false
	}
	w.leaves(w.acks)
	return true
}

// told notes what has come of the run that was written.
func (w *writer) told(err error) {
	if err != nil {
		w.unwritten = append(w.unwritten, w.acks...)
	}
	w.wrote(w.acks, w.came, err)
}

// finish writes what the socket has not taken of the last run.
func (w *writer) finish() error {
	if w.left == 0 {
		return nil
	}
	_, err := w.nc.Write(w.acks[len(w.acks)-w.left:])
	w.left = 0
	w.told(err)
	return err
}

// send writes one packet.
func (w *writer) send(packet []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.goodbye || len(packet) == 0 {
		return nil
	}
	if err := w.finish(); err != nil {
		return err
	}
	_, err := w.nc.Write(packet)
	return err
}

// sayGoodbye writes the last packet, within a second.
func (w *writer) sayGoodbye(packet []byte) {
	_ = w.nc.SetWriteDeadline(time.Now().Add(time.Second)) // for whoever holds the lock, too
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.goodbye {
		return
	}
	w.goodbye = true
	if w.finish() == nil && len(packet) > 0 {
		_, _ = w.nc.Write(packet) // the connection ends either way
	}
}

func (w *writer) isClosed() bool {
	select {
	case <-w.closed:
		return true
	default:
		return false
	}
}
