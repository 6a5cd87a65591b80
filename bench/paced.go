package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// A pacer sends in open loop: message i at start + i/rate, whether the ones
// before were acknowledged or not. Latencies count from that time, so that
// messages that could not be sent in time are not left out.
type pacer struct {
	*delivery
	rate      int           // messages a second
	slots     chan struct{} // one token for each message that is out, as many as the window
	out       atomic.Int64
	latencies instrument.Latencies
}

func newPacer(d *delivery, rate int) *pacer {
	return &pacer{delivery: d, rate: rate, slots: make(chan struct{}, d.window), latencies: instrument.NewLatencies()}
}

// run delivers all messages and records the time to each PUBACK.
func (p *pacer) run() error {
	p.times.Start = time.Now().Add(10 * time.Millisecond).UnixNano()
	written, stop := make(chan error, 1), make(chan struct{})
	go func() { written <- p.write(stop) }()
	err := p.readAll()
	p.times.End = time.Now().UnixNano()
	close(stop)
	if err != nil {
		p.conn.Close()
	}
	return errors.Join(err, <-written)
}

// intended is when message i is to be sent.
func (p *pacer) intended(i int) int64 { return intended(p.times.Start, i, p.rate) }

// intended is when message i is to be sent at so many a second.
func intended(start int64, i, rate int) int64 {
	return start + int64(i)*int64(time.Second)/int64(rate)
}

// write sleeps on a thread of its own: the runtime's timers are too coarse.
func (p *pacer) write(stop <-chan struct{}) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range p.n {
		if d := p.intended(i) - time.Now().UnixNano(); d > 0 {
			pause := unix.NsecToTimespec(d)
			_ = unix.Nanosleep(&pause, nil) // woken early by a signal: sent early
		}
		select {
		case p.slots <- struct{}{}:
		case <-stop:
			return nil
		}
		packet, _ := p.frames.next(1, writeBytes)
		p.out.Add(1)
		if _, err := p.conn.Write(packet); err != nil {
			return fmt.Errorf("write PUBLISH %d: %w", i+1, err)
		}
	}
	return nil
}

func (p *pacer) readAll() error {
	for p.acked < p.n {
		if err := p.in.fill(); err != nil {
			return fmt.Errorf("read PUBACK %d of %d: %w", p.acked+1, p.n, err)
		}
		now, before := time.Now().UnixNano(), p.acked
		if err := p.takeAcks(int(p.out.Load())); err != nil {
			return err
		}
		for i := before; i < p.acked; i++ {
			p.latencies.Record(now - p.intended(i))
			<-p.slots
		}
	}
	return nil
}
