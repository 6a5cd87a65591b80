package session

import "sync"

// Bounds of what one session has handed to the log and not got back. One batch
// may exceed them, so that a message of any size passes.
const (
	windowBytes   = 8 << 20
	windowBatches = 256
)

// How many batches of small reads may be out before the reader waits for a
// commit, as long as a read brings few messages; then it waits for each.
const (
	fewBatches  = 8
	fewMessages = 4
)

// A window counts what a session has handed to the log and not got back. It
// outlives the connections: the batches of a lost connection stay in it
// until they are Done.
type window struct {
	mu             sync.Mutex
	batches, bytes int
	changed        chan struct{} // closed by the next give; nil while nobody waits
}

func (w *window) take(bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches++
	w.bytes += bytes
}

func (w *window) give(bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches--
	w.bytes -= bytes
	w.wakeLocked()
}

// wake lets who waits for the next give look again, for another reason.
func (w *window) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakeLocked()
}

func (w *window) wakeLocked() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// next returns a channel that is closed by the next give.
func (w *window) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

// hasRoom says whether a further batch may be filled.
func (w *window) hasRoom() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes < windowBytes && w.batches < windowBatches
}

// hasPlenty says that the window is less than half full.
func (w *window) hasPlenty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes < windowBytes/2 && w.batches < windowBatches/2
}

// hasFew says that few batches are out.
func (w *window) hasFew() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.batches < fewBatches
}

// empty says that everything handed over is Done.
func (w *window) empty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.batches == 0
}

// A Budget bounds what all sessions of a listener together have handed to the log
// and not got back, in bytes. A nil Budget is unbounded.
type Budget struct {
	most int

	mu    sync.Mutex
	bytes int
	freed chan struct{} // closed when there is room again; nil while nobody waits
}

// NewBudget returns a budget of so many bytes. One batch of each session may exceed it.
func NewBudget(most int) *Budget { return &Budget{most: most} }

// Take takes bytes, whether there is room or not.
func (b *Budget) Take(bytes int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += bytes
}

// grow takes what is missing from held to wanted, or gives back what is too much. False: there
// is no room, and others have some of it; one alone may have more than there is.
func (b *Budget) grow(held, wanted int) bool {
	if b == nil {
		return true
	}
	if wanted <= held {
		b.Give(held - wanted)
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if others := b.bytes - held; others > 0 && others+wanted > b.most {
		return false
	}
	b.bytes += wanted - held
	return true
}

// Give gives them back.
func (b *Budget) Give(bytes int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes -= bytes
	if b.freed != nil && b.bytes < b.most {
		close(b.freed)
		b.freed = nil
	}
}

func (b *Budget) hasRoom() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes < b.most
}

// next returns a channel that is closed when there is room again; nil: there is.
func (b *Budget) next() <-chan struct{} {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes < b.most {
		return nil
	}
	if b.freed == nil {
		b.freed = make(chan struct{})
	}
	return b.freed
}

// Wait waits for room. It is false if done comes first.
func (b *Budget) Wait(done <-chan struct{}) bool {
	for {
		freed := b.next()
		if freed == nil {
			return true
		}
		select {
		case <-freed:
		case <-done:
			return false
		}
	}
}
