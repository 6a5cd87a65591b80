package compare

import (
	"errors"
	"sync"
)

// sending is what the goroutines of a publisher share about how it ends.
type sending struct {
	mu      sync.Mutex // of this, and of what the publisher waits for
	changed sync.Cond  // on mu
	err     error      // the first
	leaving bool       // what fails now does not matter
}

// errQuit ends a publisher that waits for what does not come.
var errQuit = errors.New("no further confirmation has come")

// fail keeps the reason and wakes whoever waits.
func (s *sending) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && !s.leaving {
		s.err = err
	}
	s.changed.Broadcast()
}

// failed is the reason why the sending has failed, err if there is none yet.
func (s *sending) failed(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return err
}

func (s *sending) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
}

// until has the publisher fail when quit is closed; cut ends a write that may
// be stuck. over is called when the publisher is done.
func (s *sending) until(quit <-chan struct{}, cut func()) (over func()) {
	done := make(chan struct{})
	go func() {
		select {
		case <-quit:
			s.fail(errQuit)
			cut()
		case <-done:
		}
	}()
	return func() { close(done) }
}
