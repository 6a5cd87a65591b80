package importer

import (
	"context"
	"encoding/json"
	"time"

	"github.com/mqttetl/mqttetl"
)

// hand gives the open batch to the log, with the position behind its last line.
// The position of the line that is being read has not been taken over yet.
func (m *Importer) hand(ctx context.Context) error {
	if err := m.bad.flush(); err != nil {
		return err
	}
	m.at.RejectedBytes = m.bad.noted()
	b := m.batch
	m.batch = nil
	if b == nil {
		b = m.take()
	}
	note, err := json.Marshal(m.at)
	if err != nil {
		return err
	}
	b.Note = mqttetl.Note{Name: m.note(), Value: note}
	if err := m.reserve(ctx, b.Size()); err != nil {
		return err
	}
	m.log.Append(b)
	return nil
}

// reserve waits until the batch may be in flight.
func (m *Importer) reserve(ctx context.Context, size int) error {
	for {
		m.mu.Lock()
		if err := m.failed; err != nil {
			m.mu.Unlock()
			return err
		}
		if m.count == 0 || m.count < flightCount && m.bytes+size <= flightBytes {
			defer m.mu.Unlock()
			m.count++
			m.bytes += size
			return nil
		}
		m.mu.Unlock()
		select {
		case <-m.moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// drainTime is how long what is in flight may still take when the import is
// stopped. A log that is full answers nothing before it is closed.
const drainTime = time.Second

// drain waits until everything is answered. When ctx has ended it does not wait
// long, and returns its cause if something is left.
func (m *Importer) drain(ctx context.Context) error {
	stopped := ctx.Done()
	var late <-chan time.Time
	for {
		m.mu.Lock()
		count, failed := m.count, m.failed
		m.mu.Unlock()
		if count == 0 {
			return failed
		}
		select {
		case <-m.moved:
		case <-stopped:
			stopped, late = nil, time.After(drainTime)
		case <-late:
			return context.Cause(ctx)
		}
	}
}

// take returns an empty batch.
func (m *Importer) take() *mqttetl.Batch {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.free); n > 0 {
		b := m.free[n-1]
		m.free = m.free[:n-1]
		return b
	}
	b := &mqttetl.Batch{}
	b.Done = func(_ mqttetl.Seq, err error) { m.done(b, err) }
	return b
}

// done is told by the log that a batch is committed, or never will be.
func (m *Importer) done(b *mqttetl.Batch, err error) {
	m.mu.Lock()
	m.count--
	m.bytes -= b.Size()
	if err != nil && m.failed == nil {
		m.failed = err
	}
	if b.Reset(); b.Cap() <= 4*batchBytes && len(m.free) < 64 {
		m.free = append(m.free, b)
	}
	m.mu.Unlock()
	select {
	case m.moved <- struct{}{}:
	default:
	}
}
