package doctor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/visible"
)

// probed is how many messages the rate is measured with.
const probed = 5000

// window measures how many messages the broker sends without an acknowledgement;
// 0: it could not.
func (p *patient) window(ctx context.Context) int {
	const check = "window"
	asked := p.source.ReceiveMaximum
	filter := client.Filter{Topic: p.topic, QoS: 1}
	began := time.Now()
	answers, err := p.conn.Subscribe(ctx, []client.Filter{filter}, nil)
	p.trip = time.Since(began)
	if err == nil {
		err = client.Refused(filter, answers[0])
	}
	if err == nil {
		err = p.fill(ctx, asked+asked/10+1)
	}
	got := int(p.held.Load())
	if err != nil || got == 0 || answers[0].Code == 0 {
		p.unmeasured(ctx, check, err)
		return 0
	}
	level, advice := OK, ""
	if got < asked {
		level, advice = Warn, "raise the broker's limit of messages in flight (Mosquitto: max_inflight_messages)"
	}
	p.add(p.part, check, level, advice, "the broker sends %d messages without an acknowledgement; receive_maximum is %d", got, asked)
	return got
}

// unmeasured says that a probe has come to nothing.
func (p *patient) unmeasured(ctx context.Context, check string, err error) {
	if ctx.Err() == nil {
		p.add(p.part, check, Warn, "allow mqttetl/doctor/# to be published and subscribed",
			"not measured: %s", visible.OneLine(errors.Join(err, errors.New("no message with QoS 1 came back"))))
	}
}

// fill publishes n messages to ourselves and waits until no more arrive.
func (p *patient) fill(ctx context.Context, n int) error {
	p.last.Store(time.Now().UnixNano())
	if err := p.publish(ctx, p.topic, n, make(chan struct{}, n)); err != nil {
		return err
	}
	for time.Since(time.Unix(0, p.last.Load())) < quietTime {
		if !backoff.Pause(ctx, quietTime/10) {
			return ctx.Err()
		}
	}
	return nil
}

// publish publishes n messages over a connection of their own: the other may be
// full of what it does not acknowledge. Each of them takes a place in room.
func (p *patient) publish(ctx context.Context, topic string, n int, room chan struct{}) error {
	c, err := p.connect(ctx, p.conn.Version(), client.Options{})
	if err != nil {
		return err
	}
	defer p.leave(ctx, c)
	defer context.AfterFunc(ctx, c.Close)()
	for range n {
		if err := admit(ctx, c, room); err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
		if _, err := c.Publish(&client.Message{Topic: topic, Payload: []byte("doctor"), QoS: 1}); err != nil {
			return err
		}
	}
	if err := c.Drain(ctx); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// admit waits for a place in room.
func admit(ctx context.Context, c *client.Client, room chan struct{}) error {
	select {
	case room <- struct{}{}:
		return nil
	default:
		c.Flush()
	}
	select {
	case room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.Done():
		return c.Err()
	case <-time.After(patience):
		return fmt.Errorf("of %d messages none has come back for %s", len(room), patience)
	}
}

// underWay is how many messages of the rate are under way at most, so that no
// broker has to queue more than it does by default, and drops one.
const underWay = 500

// ceiling measures how many messages a second go through the broker to one
// connection that acknowledges after the time of a commit, as the service does for
// a sender that waits. What it says and returns is not more than that; 0: not measured.
func (p *patient) ceiling(ctx context.Context) float64 {
	const check = "ceiling"
	topic := p.topic + "/rate"
	var got atomic.Int64
	all, room := make(chan struct{}), make(chan struct{}, underWay)
	c, err := p.connect(ctx, p.conn.Version(), client.Options{
		Receive: func(m *client.Received) error {
			select {
			case <-room:
				if got.Add(1) == probed {
					close(all)
				}
			default: // a redelivery
			}
			return nil
		},
		Flush: func() error { backoff.Pause(ctx, p.commit); return nil },
	})
	if err != nil {
		p.unmeasured(ctx, check, err)
		return 0
	}
	defer p.leave(ctx, c)
	filter := client.Filter{Topic: topic, QoS: 1}
	answers, err := c.Subscribe(ctx, []client.Filter{filter}, nil)
	if err == nil {
		err = client.Refused(filter, answers[0])
	}
	began := time.Now()
	if err == nil {
		err = p.publish(ctx, topic, probed, room)
	}
	if err == nil {
		select {
		case <-all:
		case <-ctx.Done():
		case <-c.Done():
		case <-time.After(patience):
		}
	}
	n, took := got.Load(), time.Since(began).Truncate(time.Millisecond)+time.Millisecond
	rate := math.Floor(float64(n) / took.Seconds())
	switch {
	case err != nil || n == 0 || ctx.Err() != nil:
		p.unmeasured(ctx, check, err)
	case n < probed:
		p.add(p.part, check, Warn, hintDrops, "%d of %d messages came back in %s: the broker dropped the rest, or is very slow",
			n, probed, took)
	default:
		p.add(p.part, check, OK, "", "measured %.0f messages/s: %d small ones with QoS 1 in %s, to one connection that acknowledges after a commit of %s",
			rate, n, took, p.commit.Round(10*time.Microsecond))
		return rate
	}
	return 0
}
