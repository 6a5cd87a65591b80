package replay

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/export"
)

// Lines plays records as lines of NDJSON. A line is confirmed when the system
// has taken it.
type Lines struct {
	w         *bufio.Writer
	enc       export.JSON
	line      []byte
	last      mqttetl.Seq
	n         int
	confirmed Confirm
}

// NewLines writes to w.
func NewLines(w io.Writer, confirmed Confirm) *Lines {
	return &Lines{w: bufio.NewWriterSize(w, 64<<10), confirmed: confirmed}
}

// Send implements Destination.
func (l *Lines) Send(ctx context.Context, r *mqttetl.Record) error {
	l.line = l.enc.Append(l.line[:0], r)
	if l.w.Buffered() > 0 && l.w.Available() < len(l.line) { // whole lines only
		if err := l.Flush(ctx); err != nil {
			return err
		}
	}
	if _, err := l.w.Write(l.line); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	l.last = r.Seq
	l.n++
	return nil
}

// Flush implements Destination.
func (l *Lines) Flush(context.Context) error {
	if err := l.w.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if l.n > 0 {
		l.confirmed(l.last, l.n)
		l.n = 0
	}
	return nil
}

// Drain implements Destination.
func (l *Lines) Drain(ctx context.Context) error { return l.Flush(ctx) }

// Close implements Destination. It does not close the writer.
func (l *Lines) Close() error { return nil }
