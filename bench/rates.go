package main

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// What a message costs at the rates that people have, through Mosquitto, with
// everything at its default.
var (
	rateShape = shape{150, 900}
	rates     = []int{10, 100, 1000, 10000}
)

const (
	// rateTime is for how long messages are sent in a cell.
	rateTime = 10 * time.Second
	// rateEnd is how long a store that commits once a second may take for the last of them.
	rateEnd = 1500 * time.Millisecond
)

func ratePoint(s subject, rate int) point { return point{s, rateShape, rate} }

// atRate measures one round at one rate.
func (b *bench) atRate(r results, rate int) error {
	for _, c := range contenders {
		m, err := b.rateCell(rate, c.start)
		if err != nil {
			return fmt.Errorf("%s: %w", c.subject, err)
		}
		if c.subject == rateOurs && m.Messages != b.rateMessages(rate) {
			return fmt.Errorf("%s: stored %d messages of %d", c.subject, m.Messages, b.rateMessages(rate))
		}
		r.add(ratePoint(c.subject, rate), m)
		b.logf("%-60s %6d msg/s  %9.0f stored  %9.0f B  %8.1f µs", c.subject, rate, m.Rate, m.Written, m.CPU*1e6)
	}
	return nil
}

// rateMessages is how many messages a cell has.
func (b *bench) rateMessages(rate int) int { return max(int(float64(rate)*b.cell.Seconds()), 1) }

// rateCell measures one contender at one rate.
func (b *bench) rateCell(rate int, start func(*contender) error) (m measurement, err error) {
	dir, done, err := b.newDir()
	if err != nil {
		return m, err
	}
	defer done()
	c := &contender{bench: b, dir: dir}
	defer c.kill()
	if err := start(c); err != nil {
		return m, err
	}
	p, err := startRole(b.ctx, "publish", publishing{c.addr, b.rateMessages(rate), rateShape.Payload, publisherWindow, rate})
	if err != nil {
		return m, err
	}
	defer p.Kill()
	if err := errors.Join(p.Hear(&subscribed{}), b.syncDisk()); err != nil {
		return m, err
	}
	return m, c.measure(p, &m)
}

// measure has p publish for the time of a cell, and measures what c stores of it.
// What c writes as it ends counts: a service that continues would write it later.
func (c *contender) measure(p *child, m *measurement) error {
	before, err := c.used()
	if err != nil {
		return err
	}
	memory := instrument.WatchMemory(c.process.Process.Pid)
	published := make(chan error, 1)
	go func() {
		_, err := p.deliver()
		published <- err
	}()
	select {
	case <-time.After(c.cell + rateEnd):
	case <-c.ctx.Done():
	}
	after, err := c.used()
	m.Peak = float64(memory.End())
	if err != nil {
		return errors.Join(c.ctx.Err(), err)
	}
	select {
	case err := <-published:
		if err != nil {
			return err
		}
	default: // the broker does not take them so fast; deliver waits for its end
		if err := syscall.Kill(p.PID(), syscall.SIGKILL); err != nil {
			return err
		}
		<-published
	}
	if c.ask != nil {
		if err := c.ask(m); err != nil {
			return err
		}
	}
	written, err := c.end()
	if err != nil {
		return err
	}
	if m.Messages, err = c.stored(); err != nil {
		return err
	}
	n := float64(m.Messages)
	m.Rate = n / c.cell.Seconds()
	m.CPU = (after.cpu - before.cpu).Seconds() / n
	m.Written = float64(written-before.written) / n
	return nil
}

// used is what the process has used so far.
func (c *contender) used() (u use, err error) {
	if u.cpu, err = instrument.ProcessTime(c.process.Process.Pid); err == nil {
		u.written, err = instrument.WrittenBytes(c.process.Process.Pid)
	}
	return u, err
}
