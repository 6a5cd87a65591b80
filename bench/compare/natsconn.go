package compare

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// natsBuffer is what nats.go gathers before it writes, in bytes.
const natsBuffer = 64 << 10

// connectNATS makes a connection by d. fail is called if it ends by itself, or
// the server complains about it.
func connectNATS(url string, d *meteredDialer, fail func(error)) (*nats.Conn, error) {
	lost := func(_ *nats.Conn, err error) {
		if err == nil {
			err = errors.New("closed by the server")
		}
		fail(fmt.Errorf("connection to NATS: %w", err))
	}
	options := []nats.Option{
		nats.Name("mqttetl bench"), nats.NoReconnect(), nats.Timeout(dialTime), nats.WriteBufferSize(natsBuffer), nats.SetCustomDialer(d),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if !nc.IsClosed() || err != nil {
				lost(nc, err)
			}
		}),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { lost(nc, err) }),
	}
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", url, err)
	}
	return nc, nil
}

// natsPublisher publishes by nats.go: core, or to JetStream with a reply subject
// for each slot of the window, so that an acknowledgement costs no lookup.
type natsPublisher struct {
	maker
	pace
	counts
	nc       *nats.Conn
	dialer   *meteredDialer
	size     int
	subjects []string // by topic
	confirms *recorder
	late     *recorder

	window  int      // 0: core
	replies []string // by slot
	acks    *nats.Subscription

	mu      sync.Mutex
	changed sync.Cond
	sentAt  []int64       // by slot: when it was sent, in open loop was to be sent; 0: free
	out     int           // unconfirmed messages; with NATS core bytes that may be unread
	behind  chan struct{} // with NATS core: there is something to follow
	err     error
	leaving atomic.Bool
}

func newNATSPublisher(t *trial, url string, publisher int) (*natsPublisher, error) {
	p := &natsPublisher{
		maker: t.maker(publisher), pace: t.pace(publisher), size: t.c.Size,
		confirms: t.confirm.of(publisher), late: t.late.of(publisher),
		window: t.c.Inflight, dialer: &meteredDialer{m: &t.wire}, behind: make(chan struct{}, 1),
	}
	p.changed.L = &p.mu
	for i := range t.c.Topics {
		p.subjects = append(p.subjects, t.subject(publisher, i))
	}
	var err error
	if p.nc, err = connectNATS(url, p.dialer, p.fail); err != nil || p.window == 0 {
		return p, err
	}
	p.sentAt = make([]int64, p.window)
	inbox := nats.NewInbox() + "."
	for i := range p.window {
		p.replies = append(p.replies, inbox+strconv.Itoa(i))
	}
	if p.acks, err = p.nc.Subscribe(inbox+"*", p.acknowledged); err == nil {
		err = errors.Join(p.acks.SetPendingLimits(-1, -1), p.nc.Flush())
	}
	if err != nil {
		p.nc.Close()
	}
	return p, err
}

// publish sends until its pace says that it is over, and waits until all is
// confirmed or, with NATS core, the server has read it; quit ends the waiting.
func (p *natsPublisher) publish(quit <-chan struct{}) error {
	p.begin()
	defer p.end()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-quit:
			p.fail(errQuit)
			p.dialer.give(0)
		case <-over:
		}
	}()
	if p.window == 0 {
		go p.follow(over)
	}
	payload := filler(p.size)
	for due := p.wait(p.next); due > 0; due = p.wait(p.next) {
		if err := p.some(payload, min(due, 64)); err != nil {
			return err
		}
	}
	if p.window > 0 {
		return p.drain()
	}
	if err := p.nc.FlushTimeout(flushTime); err != nil {
		return p.why(fmt.Errorf("flush: %w", err))
	}
	p.lastConfirm.Store(now())
	return p.why(nil)
}

// flushTime is how long the server may take to read what was sent.
const flushTime = 30 * time.Second

// why prefers the reason for which the connection has ended.
func (p *natsPublisher) why(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	return err
}

// some publishes n messages.
func (p *natsPublisher) some(payload []byte, n int) error {
	var at int64
	for k := range n {
		i := p.next
		if k&15 == 0 || p.every > 0 || p.window > 0 { // to read the clock for each would cost a part of the rate
			at = now()
		}
		if p.every > 0 {
			p.late.record(at - p.due(i))
			at = p.due(i)
		}
		subject := p.subjects[int(i)%len(p.subjects)]
		if p.window == 0 {
			p.stamp(payload, at)
			if err := p.nc.Publish(subject, payload); err != nil {
				return p.why(fmt.Errorf("publish: %w", err))
			}
			continue
		}
		slot := int(i) % p.window
		if err := p.reserve(slot, &at); err != nil {
			return err
		}
		p.stamp(payload, at)
		if err := p.nc.PublishRequest(subject, p.replies[slot], payload); err != nil {
			return p.why(fmt.Errorf("publish: %w", err))
		}
		p.sent.Add(1)
	}
	if p.window > 0 {
		return nil
	}
	p.sent.Add(uint64(n))
	return p.bounded(n * (p.size + len(p.subjects[0])))
}

// unreadBytes is about how much of NATS core the server may not have read yet.
const unreadBytes = 1 << 20

// bounded waits while the server is too far behind, after n bytes more.
func (p *natsPublisher) bounded(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out += n; p.out > unreadBytes/4 {
		select {
		case p.behind <- struct{}{}:
		default:
		}
	}
	for p.out > unreadBytes && p.err == nil {
		p.changed.Wait()
	}
	return p.err
}

// follow learns how far the server is, by PING and PONG, until over.
func (p *natsPublisher) follow(over <-chan struct{}) {
	for {
		select {
		case <-p.behind:
		case <-over:
			return
		}
		p.mu.Lock()
		n := p.out
		p.mu.Unlock()
		if err := p.nc.FlushTimeout(flushTime); err != nil {
			p.fail(fmt.Errorf("flush: %w", err))
			return
		}
		p.mu.Lock()
		p.out -= n
		p.changed.Signal()
		p.mu.Unlock()
	}
}

// reserve waits until the slot is free. In closed loop at is then the time of
// sending.
func (p *natsPublisher) reserve(slot int, at *int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.sentAt[slot] != 0 && p.err == nil {
		p.changed.Wait()
		if p.every == 0 {
			*at = now()
		}
	}
	p.sentAt[slot] = *at
	p.out++
	return p.err
}

// acknowledged takes a PubAck.
func (p *natsPublisher) acknowledged(m *nats.Msg) {
	slot, err := strconv.Atoi(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	at := now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || slot >= len(p.sentAt) || p.sentAt[slot] == 0 {
		p.err = errors.Join(p.err, fmt.Errorf("an acknowledgement on %s, which is not awaited", m.Subject))
		p.changed.Signal()
		return
	}
	if text := refusal(m); text != "" {
		p.refused.Add(1)
		if p.err == nil {
			p.err = fmt.Errorf("JetStream refuses a message: %s", text)
		}
	} else {
		p.confirms.record(at - p.sentAt[slot])
		p.confirmed.Add(1)
		p.lastConfirm.Store(at)
	}
	p.sentAt[slot] = 0
	// Not for each, or a full window would cost a wake-up a message.
	if p.out--; p.out <= p.window-max(1, p.window/4) || p.err != nil {
		p.changed.Signal()
	}
}

// refusal is why JetStream has not stored a message, "" if it has.
func refusal(m *nats.Msg) string {
	if m.Header.Get("Status") == "503" {
		return "no stream takes it"
	}
	if text := string(m.Data); strings.Contains(text[:min(len(text), 64)], `"error"`) || !strings.Contains(text, `"seq"`) {
		return text
	}
	return ""
}

// drain waits until everything is confirmed.
func (p *natsPublisher) drain() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.out > 0 && p.err == nil {
		p.changed.Wait()
	}
	return p.err
}

func (p *natsPublisher) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && !p.leaving.Load() {
		p.err = err
	}
	p.changed.Broadcast()
}

func (p *natsPublisher) windowed() int    { return p.window }
func (p *natsPublisher) counted() *counts { return &p.counts }

func (p *natsPublisher) close() {
	p.leaving.Store(true)
	p.dialer.give(closeTime)
	p.nc.Close()
}

// closeTime is how long the end of a connection may take.
const closeTime = time.Second

// natsSubscriber hears a subject by nats.go: core, or what a consumer of the
// stream delivers without acknowledgements.
type natsSubscriber struct {
	*ledger
	nc      *nats.Conn
	dialer  *meteredDialer
	leaving atomic.Bool
	reader  chan struct{} // closed when the last callback has returned
}

// subscribeNATS subscribes to subject, or from stream if it is not "".
func subscribeNATS(t *trial, url, stream, subject string, l *ledger, fail func(error)) (*natsSubscriber, error) {
	s := &natsSubscriber{ledger: l, reader: make(chan struct{}), dialer: &meteredDialer{m: &t.wire}}
	var err error
	s.nc, err = connectNATS(url, s.dialer, func(err error) {
		if !s.leaving.Load() {
			fail(err)
		}
	})
	if err != nil {
		return nil, err
	}
	sub, err := s.subscribe(stream, subject)
	if err == nil {
		sub.SetClosedHandler(func(string) { close(s.reader) })
		err = errors.Join(sub.SetPendingLimits(-1, -1), s.nc.Flush())
	}
	if err != nil {
		s.nc.Close()
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return s, nil
}

func (s *natsSubscriber) subscribe(stream, subject string) (*nats.Subscription, error) {
	if stream == "" {
		return s.nc.Subscribe(subject, s.message)
	}
	js, err := s.nc.JetStream(nats.MaxWait(dialTime))
	if err != nil {
		return nil, err
	}
	return js.Subscribe(subject, s.message, nats.BindStream(stream), nats.AckNone(), nats.DeliverAll(), nats.EnableFlowControl(), nats.IdleHeartbeat(10*time.Second))
}

func (s *natsSubscriber) message(m *nats.Msg) {
	at := now()
	var subject []byte
	if s.emqtt { // else it is not looked at
		subject = []byte(m.Subject)
	}
	if s.take(subject, m.Data, at) {
		s.arrived(at)
	}
}

// close ends the connection; the ledger is then complete.
func (s *natsSubscriber) close() {
	s.leaving.Store(true)
	s.dialer.give(closeTime)
	s.nc.Close()
	<-s.reader
}

func (s *natsSubscriber) book() *ledger { return s.ledger }
