package compare

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// counts are what a publisher has done so far.
type counts struct {
	sent, confirmed, refused atomic.Uint64
	lastConfirm              atomic.Int64 // Unix nanoseconds
}

// publisher publishes for a trial.
type publisher interface {
	// publish sends until its pace is over and returns when everything is
	// confirmed, or quit is closed.
	publish(quit <-chan struct{}) error
	windowed() int
	counted() *counts
	close()
}

// subscriber hears for a trial, from when it is made.
type subscriber interface {
	book() *ledger // complete after close
	close()
}

// trial is one round of one case.
type trial struct {
	*world
	c   *Case
	tag uint16 // distinguishes it from the others of the run
	ctx context.Context

	wire      meter
	latencies *recorders // from end to end
	confirm   *recorders
	late      *recorders
	stopped   atomic.Bool
	start     int64 // of an open loop

	pubs    []publisher
	subs    []subscriber
	end     sync.Once // of both
	cleanup []func() error
	failed  chan error                   // of a subscriber or server, the first
	before  map[string]map[string]uint64 // counters by Server.ID
}

// The ends of a trial.
const (
	// patience is how long nothing may be confirmed before a trial fails.
	patience = 15 * time.Second
	// silence is how long nothing may be delivered, with everything confirmed,
	// until what is missing counts as lost.
	silence = 2 * time.Second
	// catchUp is how long an open loop at least has to send what it could not
	// send in time; what is left then is Round.Unsent.
	catchUp = 5 * time.Second
)

func (w *world) newTrial(ctx context.Context, c *Case) *trial {
	w.tag++
	clients := max(c.Publishers, c.Subscribers)
	return &trial{
		world: w, c: c, tag: w.tag, ctx: ctx, failed: make(chan error, 1),
		latencies: newRecorders(clients), confirm: newRecorders(clients), late: newRecorders(clients),
	}
}

// fail ends the trial with its first reason.
func (t *trial) fail(err error) {
	select {
	case t.failed <- err:
	default:
	}
}

func (t *trial) maker(publisher int) maker {
	return maker{trial: t.tag, publisher: uint16(publisher), emqtt: t.cfg.EMQTT}
}

// exactMost is how many publishers may have a thread of their own to sleep on.
const exactMost = 32

// pace of a publisher: in open loop the publishers take turns.
func (t *trial) pace(publisher int) pace {
	p := pace{stopped: &t.stopped}
	if t.c.Mode == Latency {
		p.every = int64(float64(t.c.Publishers) * float64(time.Second) / t.c.Offered)
		p.start, p.offset = &t.start, int64(publisher)*p.every/int64(t.c.Publishers)
		p.count = uint32((int64(t.c.Duration) - p.offset + p.every - 1) / p.every)
		p.exact = t.c.Publishers <= exactMost
	}
	return p
}

// topic and subject end in trial, publisher and number of the topic.
func (t *trial) topic(publisher, topic int) string {
	return t.topicPrefix() + "/" + strconv.Itoa(publisher) + "/" + strconv.Itoa(topic)
}

func (t *trial) topicPrefix() string {
	return topicRoot + "/" + t.run + "/" + strconv.Itoa(int(t.tag))
}

func (t *trial) subject(publisher, topic int) string {
	return t.subjectPrefix() + "." + strconv.Itoa(publisher) + "." + strconv.Itoa(topic)
}

func (t *trial) subjectPrefix() string {
	return topicRoot + "." + t.run + "." + strconv.Itoa(int(t.tag))
}

// hears are the publishers that a subscriber hears: with as many of both its
// own, else all.
func (t *trial) hears(subscriber int) (first, n int) {
	if t.c.Publishers == t.c.Subscribers {
		return subscriber, 1
	}
	return 0, t.c.Publishers
}

// filter is what a subscriber subscribes to.
func (t *trial) filter(subscriber int, prefix, level, any string) string {
	if t.c.Publishers == t.c.Subscribers {
		return prefix + level + strconv.Itoa(subscriber) + level + any
	}
	return prefix + level + any
}

// expected deliveries of what was sent.
func (t *trial) expected() uint64 {
	if t.c.Publishers == t.c.Subscribers {
		return t.sent()
	}
	return t.sent() * uint64(t.c.Subscribers)
}

func (t *trial) sent() (n uint64) {
	for _, p := range t.pubs {
		n += p.counted().sent.Load()
	}
	return n
}

func (t *trial) confirmed() (n uint64) {
	for _, p := range t.pubs {
		n += p.counted().confirmed.Load()
	}
	return n
}

func (t *trial) delivered() (n uint64) {
	for _, s := range t.subs {
		n += s.book().delivered.Load()
	}
	return n
}

// do measures. What it leaves on the servers is gone when it returns.
func (t *trial) do(round int) (r Round, err error) {
	defer func() { err = errors.Join(err, t.close()) }()
	r.Round = round
	if err := t.completeRounds(); err != nil {
		return r, err
	}
	if err := t.prepare(); err != nil {
		return r, err
	}
	if err := t.readCounters(&r); err != nil {
		return r, err
	}
	if err := t.measure(&r); err != nil {
		return r, err
	}
	return r, t.compareCounters(&r)
}

// measure publishes, waits and fills in what came of it.
func (t *trial) measure(r *Round) error {
	u := t.readUsage()
	r.Begun = time.Now()
	begun := now()
	t.start = begun + int64(startIn)
	sampled := t.sample(begun)
	err := t.publishAll()
	if err == nil {
		err = t.awaitDeliveries()
	}
	r.Samples = sampled()
	t.since(u, r)
	t.closeClients()
	if err == nil {
		err = t.ctx.Err()
	}
	if err != nil {
		return err
	}
	t.fill(r, begun)
	return nil
}

// startIn is when an open loop starts, from its beginning: so that no publisher
// is late because it was not yet there.
const startIn = 5 * time.Millisecond

// publishAll lets all publishers publish for the duration, and until what they
// sent is confirmed.
func (t *trial) publishAll() error {
	quit := make(chan struct{})
	done := make(chan error, len(t.pubs))
	var running sync.WaitGroup
	for _, p := range t.pubs {
		running.Go(func() { done <- p.publish(quit) })
	}
	defer running.Wait()
	defer sync.OnceFunc(func() { close(quit) })()
	defer t.stopped.Store(true)
	span := t.c.Duration
	if t.c.Mode == Latency { // what was due is sent, or the worst latencies would be missing
		span += max(t.c.Duration, catchUp)
	}
	over := time.NewTimer(span)
	defer over.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	var moved uint64
	progress := time.Now()
	for left := len(t.pubs); left > 0; {
		select {
		case err := <-done:
			if left--; err != nil {
				return err
			}
		case err := <-t.failed:
			return err
		case <-t.ctx.Done():
			return t.ctx.Err()
		case <-over.C:
			t.stopped.Store(true)
		case <-look.C:
			t.show()
			if n := t.sent() + uint64(t.wire.bytes.Load()); n != moved || n == t.sent() { // the publishers of others are not metered
				moved, progress = n, time.Now()
			} else if time.Since(progress) > patience {
				return fmt.Errorf("nothing has moved for %v: %d of %d messages confirmed", patience, t.confirmed(), t.sent())
			}
		}
	}
	return nil
}

// awaitDeliveries waits until everything is delivered, or nothing comes any more.
func (t *trial) awaitDeliveries() error {
	if t.c.Subscribers == 0 {
		return nil
	}
	want, seen, progress := t.expected(), uint64(0), time.Now()
	fresh := func() (n uint64) {
		for _, s := range t.subs {
			n += s.book().fresh.Load()
		}
		return n
	}
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for n := fresh(); n < want; n = fresh() {
		if n != seen {
			seen, progress = n, time.Now()
		} else if time.Since(progress) > silence {
			return nil
		}
		select {
		case err := <-t.failed:
			return err
		case <-t.ctx.Done():
			return t.ctx.Err()
		case <-again.C:
		}
	}
	return nil
}

// closeClients ends the connections, after which the ledgers are complete.
func (t *trial) closeClients() {
	t.end.Do(func() {
		for _, p := range t.pubs {
			p.close()
		}
		for _, s := range t.subs {
			s.close()
		}
	})
}

// close undoes what prepare has done, also half of it.
func (t *trial) close() (err error) {
	t.closeClients()
	for i := len(t.cleanup) - 1; i >= 0; i-- {
		err = errors.Join(err, t.cleanup[i]())
	}
	for _, h := range t.hosts() {
		h.stale(time.Now())
	}
	return err
}

// fill does the sums.
func (t *trial) fill(r *Round, begun int64) {
	r.Sent, r.Expected = t.sent(), t.expected()
	last := begun
	for _, p := range t.pubs {
		c := p.counted()
		r.Confirmed += c.confirmed.Load()
		r.Refused += c.refused.Load()
		last = max(last, c.lastConfirm.Load())
		r.Window = p.windowed()
	}
	if t.c.Mode == Latency {
		for i := range t.pubs {
			r.Unsent += uint64(t.pace(i).count)
		}
		r.Unsent -= r.Sent
	}
	published := r.Sent
	if t.c.Inflight > 0 {
		published = r.Confirmed
	}
	r.PublishRate = instrument.PerSecond(published, last-begun)
	var distinct uint64
	last = begun
	for _, s := range t.subs {
		l := s.book()
		r.Delivered += l.delivered.Load()
		distinct += l.distinct
		r.Duplicated += l.duplicated
		r.Reordered += l.reordered
		r.Foreign += l.foreign
		last = max(last, l.last.Load())
	}
	if t.c.Subscribers > 0 {
		r.Lost = r.Expected - distinct
		r.DeliveredRate = instrument.PerSecond(r.Delivered, last-begun)
	} else {
		r.Expected = 0
	}
	open := t.c.Mode == Latency
	r.EndToEnd = t.latencies.merged().Quantiles(open)
	r.Confirm = t.confirm.merged().Quantiles(open)
	r.Late = t.late.merged().Quantiles(open)
}
