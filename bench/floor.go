package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// flooring is what the subscriber that only writes and syncs is to do.
type flooring struct {
	subscribing
	Path string // of the file to write
	Size int64  // bytes to set aside for it
}

// floor is the role of the least that a subscriber can do that acknowledges
// what is on disk: it appends what it reads to a file as it came, syncs the file
// and acknowledges, while it reads on. What it writes could not be read again
// by sequence, trimmed or checked; it is the limit of this machine, not a store.
func floor(l *link, p flooring) error {
	file, err := os.Create(p.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Fallocate(int(file.Fd()), 0, 0, p.Size); err != nil {
		return err
	}
	conn, in, err := subscribe(p.subscribing)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := l.say(subscribed{p.Version, p.Window}); err != nil {
		return err
	}
	s := newSyncer(file, conn)
	if err := s.run(in, p.Messages); err != nil {
		return err
	}
	return l.end(received{time.Now().UnixNano()})
}

// A piece is what one sync makes durable, and what may be said after it.
type piece struct{ packets, acks []byte }

// pieceBytes is when reading waits for the sync before.
const pieceBytes = 4 << 20

// A syncer writes a piece while the next is being read.
type syncer struct {
	file *os.File
	conn net.Conn

	mu      sync.Mutex
	changed *sync.Cond
	filling *piece
	over    bool // nothing more will be added, or be written
}

func newSyncer(file *os.File, conn net.Conn) *syncer {
	s := &syncer{file: file, conn: conn, filling: new(piece)}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// run reads n messages and returns when all are acknowledged.
func (s *syncer) run(in *input, n int) error {
	written := make(chan error, 1)
	go func() {
		err := s.write()
		s.end()
		written <- err
	}()
	err := s.read(in, n)
	s.end()
	return errors.Join(<-written, err)
}

func (s *syncer) end() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *syncer) read(in *input, n int) error {
	for n > 0 {
		if err := in.fill(); err != nil {
			return fmt.Errorf("read, %d messages missing: %w", n, err)
		}
		k, err := s.add(in)
		if err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// add adds all messages that have been read, and returns how many.
func (s *syncer) add(in *input) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.filling.packets) >= pieceBytes && !s.over {
		s.changed.Wait()
	}
	p := s.filling
	before, read := len(p.acks), in.Bytes()
	p.acks, err = appendAcks(p.acks, in)
	p.packets = append(p.packets, read[:len(read)-len(in.Bytes())]...)
	s.changed.Broadcast()
	return (len(p.acks) - before) / 4, err
}

// next waits for the next piece; nil: there is none.
func (s *syncer) next(empty *piece) *piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.filling.acks) == 0 && !s.over {
		s.changed.Wait()
	}
	p := s.filling
	if len(p.acks) == 0 {
		return nil
	}
	s.filling = empty
	s.changed.Broadcast()
	return p
}

// write makes pieces durable and acknowledges them.
func (s *syncer) write() error {
	p := new(piece)
	for {
		p.packets, p.acks = p.packets[:0], p.acks[:0]
		if p = s.next(p); p == nil {
			return nil
		}
		if _, err := s.file.Write(p.packets); err != nil {
			return err
		}
		if err := unix.Fdatasync(int(s.file.Fd())); err != nil {
			return err
		}
		if _, err := s.conn.Write(p.acks); err != nil {
			return err
		}
	}
}
