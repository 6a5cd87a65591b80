package compare

import (
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

const (
	// coreWrite is what a publisher with NATS core gathers before it writes, in
	// bytes, as long as its pace allows.
	coreWrite = 64 << 10
	// coreUnread is how many PINGs the server may not have answered, which it
	// does when it has read so far. One is sent after each corePing bytes:
	// what is unread waits in buffers, and would be the latency that is measured.
	// Where nobody hears there is none to spoil, and publishAlone lets the server
	// read on also while other processes keep us from a processor.
	coreUnread   = 4
	corePing     = 256 << 10
	publishAlone = 2 << 20
)

// corePublisher publishes with NATS core. As with MQTT, one goroutine encodes
// whole commands into a large buffer and writes it, past nats.go, whose
// connection it is otherwise.
type corePublisher struct {
	maker
	pace
	counts
	sending
	nc     *nats.Conn
	dialer *natsDialer
	size   int
	step   int      // bytes from PING to PING
	frames [][]byte // a PUB command for each topic, without header
	late   *recorder
	behind int // bytes since the latest PING

	unread int // PINGs that are not answered
}

func newCorePublisher(t *trial, at natsAt, publisher int) (*corePublisher, error) {
	p := &corePublisher{
		maker: t.maker(publisher), pace: t.pace(publisher), size: t.c.Size,
		late: t.late.of(publisher), dialer: &natsDialer{at: at, m: &t.wire}, step: corePing,
	}
	if t.c.Subscribers == 0 {
		p.step = publishAlone
	}
	p.changed.L = &p.mu
	p.dialer.pong = p.answered
	payload := filler(p.size)
	for i := range t.c.Topics {
		p.frames = append(p.frames, new(natsmsg.Framer).AppendPub(nil, &natsmsg.Message{Subject: t.subject(publisher, i), Body: payload}, ""))
	}
	var err error
	if p.nc, err = connectNATS(p.dialer, p.fail, nats.PingInterval(-1)); err != nil { // PINGs are ours alone
		return nil, err
	}
	if most := p.nc.MaxPayload(); int64(p.size) > most {
		p.nc.Close()
		return nil, fmt.Errorf("a payload of %d bytes: the server takes %d (max_payload)", p.size, most)
	}
	p.unread = 0 // that of nats.go's own login is answered
	return p, nil
}

// publish sends until its pace says that it is over, and waits until the server
// has read it; quit ends the waiting.
func (p *corePublisher) publish(quit <-chan struct{}) error {
	p.begin()
	defer p.end()
	defer p.until(quit, func() { p.dialer.give(0) })()
	var buf []byte
	for due := p.wait(p.next); due > 0; due = p.wait(p.next) {
		var n int
		if buf, n = p.encode(buf[:0], due); p.behind >= p.step {
			if err := p.await(coreUnread - 1); err != nil {
				return err
			}
			buf = p.ping(buf)
		}
		if err := p.write(buf); err != nil {
			return err
		}
		p.sent.Add(uint64(n))
	}
	if err := p.write(p.ping(nil)); err != nil {
		return err
	}
	return p.await(0)
}

// encode gathers up to due messages, at least one, and tells how many.
func (p *corePublisher) encode(buf []byte, due int) ([]byte, int) {
	n := 0
	for at := now(); n < due && len(buf) < coreWrite; n++ {
		if n&15 == 15 {
			at = now() // to read the clock for each would cost a part of the rate
		}
		if p.every > 0 {
			p.late.record(at - p.due(p.next))
			at = p.due(p.next)
		}
		buf = append(buf, p.frames[int(p.next)%len(p.frames)]...)
		p.stamp(buf[len(buf)-len("\r\n")-p.size:], at)
	}
	p.behind += len(buf)
	return buf, n
}

// ping asks the server to tell when it has read this far.
func (p *corePublisher) ping(buf []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behind = 0
	p.unread++
	return append(buf, "PING\r\n"...)
}

// answered takes PONGs.
func (p *corePublisher) answered(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unread -= n
	p.lastConfirm.Store(now())
	p.changed.Broadcast()
}

// await waits until no more than most PINGs are unanswered.
func (p *corePublisher) await(most int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.err == nil && p.unread > most {
		p.changed.Wait()
	}
	return p.err
}

func (p *corePublisher) write(buf []byte) error {
	if _, err := p.dialer.conn.Load().Write(buf); err != nil {
		p.fail(fmt.Errorf("publish: %w", err)) // unless another reason came first
	}
	return p.failed(nil)
}

func (p *corePublisher) windowed() int    { return 0 }
func (p *corePublisher) counted() *counts { return &p.counts }

func (p *corePublisher) close() {
	p.leave()
	p.dialer.give(closeTime)
	p.nc.Close()
}
