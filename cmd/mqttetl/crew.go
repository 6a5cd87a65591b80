package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
)

// A crew is actors that stop together, whatever else goes on. The first that
// fails has the whole program stop.
type crew struct {
	ctx   context.Context
	leave context.CancelFunc
	group errgroup.Group
	fail  context.CancelCauseFunc

	patience time.Duration // stop waits so long for the actors to end by themselves
}

// newCrew has the values of ctx and not its end: a crew stops in its turn.
func newCrew(ctx context.Context, fail context.CancelCauseFunc) *crew {
	c := &crew{fail: fail}
	c.ctx, c.leave = context.WithCancel(context.WithoutCancel(ctx))
	return c
}

func (c *crew) start(actor func(context.Context) error) {
	c.group.Go(func() error {
		err := actor(c.ctx)
		if err != nil {
			c.fail(err)
		}
		return err
	})
}

// stop ends the actors, waits until they have ended, and returns the first error.
func (c *crew) stop() error {
	defer time.AfterFunc(c.patience, c.leave).Stop()
	defer c.leave()
	return c.group.Wait()
}

// startStores starts the log and everything that reads it. A consumer that is
// registered with the log and not started would keep it from being trimmed.
func (p *pipeline) startStores(ctx context.Context, fail context.CancelCauseFunc) (log, consumers *crew) {
	log, consumers = newCrew(ctx, fail), newCrew(ctx, fail)
	log.start(p.log.Run)
	if p.batcher != nil {
		consumers.start(p.batcher.Run)
	}
	if p.forwarder != nil {
		consumers.start(p.forwarder.Run)
	}
	if p.mapped != nil {
		consumers.start(func(ctx context.Context) error {
			defer p.mapper.Close()
			return p.mapped.Run(ctx)
		})
	}
	return log, consumers
}

// lastReading is how long the consumers may take to read the rest of a log whose
// files have gone: what was acknowledged may have no other copy.
const lastReading = 500 * time.Millisecond

// stopTime is how long the actors may take to stop. Nothing is lost by not
// waiting, so an actor that hangs in a system call is not waited for.
const stopTime = 850 * time.Millisecond

// stop stops the crews one after the other, and returns the first error. The
// sources come before the log: what they have handed over is committed and
// acknowledged, so that the broker does not send it again. The log is the last,
// because its last transaction stores how far its consumers have come.
func (p *pipeline) stop(inOrder ...*crew) error {
	done := make(chan error, 1)
	go func() {
		var first error
		for _, c := range inOrder {
			if err := c.stop(); first == nil {
				first = err
			}
		}
		done <- first
	}()
	select {
	case err := <-done:
		p.logger.Info("stopped")
		return errors.Join(err, p.log.Close()) // all that counts is on disk since its commit
	case <-time.After(stopTime):
		p.logger.Warn("stopped without waiting for all parts", "waited", stopTime)
		return nil
	}
}
