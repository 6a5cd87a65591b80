package compare

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}

var (
	coreWrite  = envInt("CW", 64<<10)
	pingEvery  = envInt("CP", 256<<10)
	unreadMost_ = envInt("CU", 4)
)

// corePublisher publishes with NATS core. As with MQTT, one goroutine encodes
// whole commands into a large buffer and writes it.
type corePublisher struct {
	maker
	pace
	counts
	nc     *nats.Conn
	dialer *meteredDialer
	size   int
	frames [][]byte
	late   *recorder
	behind int
	unread chan struct{}

	mu      sync.Mutex
	err     error
	leaving atomic.Bool
}

func newCorePublisher(t *trial, url string, publisher int) (*corePublisher, error) {
	p := &corePublisher{
		maker: t.maker(publisher), pace: t.pace(publisher), size: t.c.Size, late: t.late.of(publisher),
		dialer: &meteredDialer{m: &t.wire}, unread: make(chan struct{}, unreadMost_),
	}
	payload := filler(p.size)
	for i := range t.c.Topics {
		p.frames = append(p.frames, fmt.Appendf(nil, "PUB %s %d\r\n%s\r\n", t.subject(publisher, i), p.size, payload))
	}
	var err error
	p.nc, err = connectNATS(url, p.dialer, p.fail)
	return p, err
}

func (p *corePublisher) publish(quit <-chan struct{}) error {
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
	conn := p.dialer.conn.Load()
	var buf []byte
	for due := p.wait(p.next); due > 0; due = p.wait(p.next) {
		buf = buf[:0]
		n := 0
		var at int64
		for ; n < due && len(buf) < coreWrite; n++ {
			if n&15 == 0 {
				at = now()
			}
			buf = p.message(buf, at)
		}
		if p.behind += len(buf); p.behind >= pingEvery {
			p.behind = 0
			p.unread <- struct{}{}
			
		}
		if _, err := conn.Write(buf); err != nil {
			return p.why(fmt.Errorf("publish: %w", err))
		}
		p.sent.Add(uint64(n))
		if p.behind == 0 {
			go func() {
				if err := p.nc.FlushTimeout(flushTime); err != nil {
					p.fail(fmt.Errorf("flush: %w", err))
				}
				<-p.unread
			}()
		}
		if err := p.why(nil); err != nil {
			return err
		}
	}
	if err := p.nc.FlushTimeout(flushTime); err != nil {
		return p.why(fmt.Errorf("flush: %w", err))
	}
	p.lastConfirm.Store(now())
	return p.why(nil)
}

func (p *corePublisher) message(buf []byte, at int64) []byte {
	if p.every > 0 {
		p.late.record(at - p.due(p.next))
		at = p.due(p.next)
	}
	buf = append(buf, p.frames[int(p.next)%len(p.frames)]...)
	p.stamp(buf[len(buf)-p.size-2:], at)
	return buf
}

func (p *corePublisher) why(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	return err
}

func (p *corePublisher) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && !p.leaving.Load() {
		p.err = err
	}
}

func (p *corePublisher) windowed() int    { return 0 }
func (p *corePublisher) counted() *counts { return &p.counts }
func (p *corePublisher) close() {
	p.leaving.Store(true)
	p.dialer.give(closeTime)
	p.nc.Close()
}

var _ = errors.New
var _ = time.Now
