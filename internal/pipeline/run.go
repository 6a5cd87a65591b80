package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/mqttetl/mqttetl/sink/wal"
)

// StopTime is how long the parts of a service may take to stop. Nothing is lost by
// not waiting, so a part that hangs in a system call is not waited for.
const StopTime = 850 * time.Millisecond

// lastReading is how long the consumers may take to read the rest of a log whose
// files have gone: what was acknowledged may have no other copy.
const lastReading = 500 * time.Millisecond

// Run runs all parts until one fails or ctx ends, stops them and closes the log.
// It returns nil when ctx ends, else the error of the part that cannot go on.
func (p *Pipeline) Run(ctx context.Context) error {
	err := p.While(ctx, func(ctx context.Context) error { <-ctx.Done(); return nil })
	if ctx.Err() == nil {
		return err
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		p.o.Logger.Warn("a part failed while stopping", "error", err)
	}
	return nil
}

// While runs all parts as long as work does, whose context ends with ctx and when
// a part fails; then it stops them and closes the log. It returns the error of the part that
// failed, since others follow from it, or else those of stopping and of work.
func (p *Pipeline) While(ctx context.Context, work func(context.Context) error) error {
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p.startAll(ctx, fail)
	err := work(running)
	p.mu.Lock()
	p.ends.Store(true)
	p.mu.Unlock()
	patience := time.Duration(0)
	if errors.Is(context.Cause(running), wal.ErrGone) {
		patience = lastReading
	}
	err = errors.Join(p.stop(patience), err)
	if failed := context.Cause(running); failed != nil && ctx.Err() == nil {
		return failed
	}
	return err
}

// startAll starts the parts, the log first. They have the values of ctx and not
// its end: they stop in their turn.
func (p *Pipeline) startAll(ctx context.Context, fail context.CancelCauseFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx, p.fail = context.WithoutCancel(ctx), fail
	for layer := range layers {
		for _, a := range p.parts {
			if a.layer == layer {
				p.start(a)
			}
		}
	}
}

// stop stops the layers one after the other, and returns the first error. The
// sources come before the log: what they have handed over is committed and
// acknowledged, so that the broker does not send it again. patience is for the
// consumers.
func (p *Pipeline) stop(patience time.Duration) error {
	done := make(chan error, 1)
	go func() {
		p.changing.Lock() // for what is being replaced
		defer p.changing.Unlock()
		var first error
		for layer := layers - 1; layer >= 0; layer-- {
			wait := time.Duration(0)
			if layer == Consumers {
				wait = patience
			}
			if err := stopAll(p.of(layer), wait); first == nil {
				first = err
			}
		}
		done <- first
	}()
	var late <-chan time.Time
	if p.o.StopTime > 0 {
		late = time.After(p.o.StopTime)
	}
	select {
	case err := <-done:
		p.o.Logger.Info("stopped")
		if p.log != nil { // all that counts is on disk since its commit
			err = errors.Join(err, p.log.Close())
		}
		return err
	case <-late:
		p.o.Logger.Warn("stopped without waiting for all parts", "waited", p.o.StopTime)
		return nil
	}
}
