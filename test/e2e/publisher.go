package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// Publisher sends numbered messages through a broker and keeps which of them
// were acknowledged. It is an independent MQTT 5 client that goes on, with the
// same number, after any error.
type Publisher struct {
	Broker  string // URL
	Run     string // is in every payload
	QoS     byte
	Topics  int // messages go to e2e/<run>/0 … in turn
	Workers int // publishes in flight at once
	Size    int // payloads are padded to this length
	Rate    int // messages a second at the most; 0: as many as the broker takes

	Payload func(i int64) string // of message i, each another; nil: run and number
	Topic   func(i int64) string // of message i; nil: as Topics says

	begun sync.Once
	start time.Time
	next  atomic.Int64
	acked atomic.Int64
	mu    sync.Mutex
	done  map[string]string // acknowledged payload → topic
	moved chan struct{}     // closed and made anew when acked changes
}

// Acked is the number of messages that the broker has acknowledged.
func (p *Publisher) Acked() int { return int(p.acked.Load()) }

// Acknowledged are the payloads that the broker has acknowledged, with their topics.
func (p *Publisher) Acknowledged() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := make(map[string]string, len(p.done))
	for k, v := range p.done {
		m[k] = v
	}
	return m
}

// Take is Acknowledged, and forgets them; Acked goes on counting.
func (p *Publisher) Take() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.done
	p.done = nil
	return m
}

// AwaitAcked waits until n messages have been acknowledged.
func (p *Publisher) AwaitAcked(ctx context.Context, n int) error {
	for {
		p.mu.Lock()
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		if p.Acked() >= n {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages acknowledged: %w", p.Acked(), n, ctx.Err())
		}
	}
}

// Publish sends messages until n have been handed out (n < 0: for ever) or ctx
// ends, and returns when all that were handed out are acknowledged or given up.
func (p *Publisher) Publish(ctx context.Context, n int) error {
	var workers sync.WaitGroup
	errs := make(chan error, p.Workers)
	for w := range p.Workers {
		workers.Go(func() { errs <- p.work(ctx, w, int64(n)) })
	}
	workers.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return all
}

// work publishes one message at a time.
func (p *Publisher) work(ctx context.Context, worker int, n int64) error {
	var c *connection
	defer func() { c.close() }()
	for ctx.Err() == nil {
		i, ok := p.number(n)
		if !ok {
			return nil
		}
		if !p.due(ctx, i) {
			return nil
		}
		topic, payload := p.message(i)
		for sent := false; !sent && ctx.Err() == nil; {
			if c == nil {
				c = p.connect(ctx, worker)
				continue
			}
			if err := c.publish(topic, payload, p.QoS); err != nil {
				c.close()
				c = nil
				continue
			}
			sent = true
			p.ack(topic, payload)
		}
	}
	return nil
}

// due waits until message i may be sent; false: ctx has ended.
func (p *Publisher) due(ctx context.Context, i int64) bool {
	if p.Rate <= 0 {
		return true
	}
	p.begun.Do(func() { p.start = time.Now() })
	select {
	case <-time.After(time.Until(p.start.Add(time.Duration(i) * time.Second / time.Duration(p.Rate)))):
		return true
	case <-ctx.Done():
		return false
	}
}

// number hands out the next message's number, below n unless n is negative.
func (p *Publisher) number(n int64) (i int64, ok bool) {
	for {
		i = p.next.Load()
		if n >= 0 && i >= n {
			return 0, false
		}
		if p.next.CompareAndSwap(i, i+1) {
			return i, true
		}
	}
}

func (p *Publisher) message(i int64) (topic, payload string) {
	if payload = fmt.Sprintf("%s-%08d", p.Run, i); p.Payload != nil {
		payload = p.Payload(i)
	}
	if pad := p.Size - len(payload); pad > 0 {
		payload += strings.Repeat(".", pad)
	}
	if p.Topic != nil {
		return p.Topic(i), payload
	}
	return fmt.Sprintf("e2e/%s/%d", p.Run, i%int64(max(1, p.Topics))), payload
}

func (p *Publisher) ack(topic, payload string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		p.done = map[string]string{}
	}
	p.done[payload] = topic
	p.acked.Add(1)
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// connection is one connection of a worker, with one message in flight.
type connection struct {
	conn   net.Conn
	in     *bufio.Reader
	id     uint16
	unhook func() bool // the connection from the end of its context
}

func (c *connection) close() {
	if c != nil {
		c.unhook()
		packets.NewControlPacket(packets.DISCONNECT).WriteTo(c.conn)
		c.conn.Close()
	}
}

// answerTime is how long a broker may take to answer.
const answerTime = 10 * time.Second

// connect makes a connection, nil if the broker is not there now.
func (p *Publisher) connect(ctx context.Context, worker int) *connection {
	u, err := url.Parse(p.Broker)
	if err != nil {
		return nil
	}
	d := net.Dialer{Timeout: answerTime}
	conn, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		select { // a broker that restarts is asked at a bounded rate
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
		return nil
	}
	c := &connection{conn: conn, in: bufio.NewReader(conn)}
	c.unhook = context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	hello := packets.NewControlPacket(packets.CONNECT)
	connect := hello.Content.(*packets.Connect)
	connect.ClientID, connect.CleanStart = fmt.Sprintf("%s-%d", p.Run, worker), true
	answer, err := c.ask(hello, packets.CONNACK)
	if err != nil || answer.Content.(*packets.Connack).ReasonCode != 0 {
		c.close()
		return nil
	}
	return c
}

// publish sends one message and returns when the broker has taken it over.
func (c *connection) publish(topic, payload string, qos byte) error {
	c.id = max(1, c.id+1)
	out := packets.NewControlPacket(packets.PUBLISH)
	m := out.Content.(*packets.Publish)
	m.Topic, m.Payload, m.QoS, m.PacketID = topic, []byte(payload), qos, c.id
	if qos < 2 {
		_, err := c.ask(out, packets.PUBACK)
		return err
	}
	if _, err := c.ask(out, packets.PUBREC); err != nil {
		return err
	}
	release := packets.NewControlPacket(packets.PUBREL)
	release.Content.(*packets.Pubrel).PacketID = c.id
	_, err := c.ask(release, packets.PUBCOMP)
	return err
}

// ask sends a packet and reads the answer, which must be of the given kind and
// have the packet id that is in flight.
func (c *connection) ask(out *packets.ControlPacket, want byte) (*packets.ControlPacket, error) {
	c.conn.SetDeadline(time.Now().Add(answerTime))
	if _, err := out.WriteTo(c.conn); err != nil {
		return nil, err
	}
	in, err := packets.ReadPacket(c.in)
	if err != nil {
		return nil, err
	}
	if in.Type != want || in.PacketID() != c.id {
		return nil, fmt.Errorf("broker answers %s %d", in.PacketType(), in.PacketID())
	}
	return in, nil
}
