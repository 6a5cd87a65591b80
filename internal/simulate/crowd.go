package simulate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"golang.org/x/sync/errgroup"

	"github.com/mqttetl/mqttetl/internal/backoff"
)

// CrowdID is how the client ids of its devices begin. Nobody else has one
// like it by chance.
var CrowdID = "device-" + rand.Text()[:8] + "-"

// Crowd is the simulated devices of the demo, each with a connection of its
// own. It never has more messages on their way than Window, so that the broker
// never has a queue that it would have to bound.
type Crowd struct {
	Broker       string // host:port
	Devices      int
	Rate         int // messages a second, all devices together
	Window       uint64
	Acknowledged func() uint64 // messages that the subscriber has acknowledged

	Published atomic.Uint64 // publishes that the broker has acknowledged
	started   atomic.Uint64 // publishes begun
}

// publishTime is how long the broker may take to acknowledge a message.
const publishTime = 10 * time.Second

// Run publishes until ctx ends and then waits for the PUBACKs that are due, so
// that every message begun is either counted as published or an error.
func (c *Crowd) Run(ctx context.Context) error {
	publishers, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	all := Devices(&Scenario{
		Seed: uint64(began.UnixNano()), Start: began,
		Groups: []Group{{Profile: All, Devices: c.Devices, Rate: float64(c.Rate), Jitter: 0.1}},
	})
	for n, d := range all {
		publishers.Go(func() error {
			if err := c.run(ctx, n, d, began); err != nil {
				return fmt.Errorf("device %d: %w", n, err)
			}
			return nil
		})
	}
	return publishers.Wait()
}

// run is the life of one device.
func (c *Crowd) run(ctx context.Context, n int, d *Device, began time.Time) error {
	m := d.Next()
	if !backoff.Pause(ctx, time.Until(began.Add(m.At))) {
		return nil
	}
	client, err := c.connect(ctx, n)
	if err != nil {
		// A dial gives up at the deadline, which may be a moment before ctx does.
		if end, ok := ctx.Deadline(); ctx.Err() != nil || ok && !time.Now().Before(end) {
			return nil
		}
		return err
	}
	defer client.Disconnect(&paho.Disconnect{})
	for c.admit(ctx) {
		if err := c.publish(client, m.Topic, m.Payload); err != nil {
			return err
		}
		m = d.Next()
		if !backoff.Pause(ctx, time.Until(began.Add(m.At))) {
			return nil
		}
	}
	return nil
}

func (c *Crowd) connect(ctx context.Context, n int) (*paho.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.Broker)
	if err != nil {
		return nil, err
	}
	client := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)})
	_, err = client.Connect(ctx, &paho.Connect{ClientID: CrowdID + strconv.Itoa(n), CleanStart: true, KeepAlive: 30})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return client, nil
}

// admit waits until one more message may be on its way, false at the end of ctx.
func (c *Crowd) admit(ctx context.Context) bool {
	for ctx.Err() == nil {
		n := c.started.Load()
		if n-min(n, c.Acknowledged()) >= c.Window {
			backoff.Pause(ctx, time.Millisecond)
			continue
		}
		if c.started.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}

// publish sends one message and waits for its PUBACK, also when the fleet has
// been told to stop: the message may be on its way already.
func (c *Crowd) publish(client *paho.Client, topic string, payload []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), publishTime)
	defer cancel()
	r, err := client.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: payload})
	if err != nil {
		return fmt.Errorf("publish %s: %w", topic, err)
	}
	if r.ReasonCode != packets.PubackSuccess {
		return fmt.Errorf("publish %s: the broker answers 0x%02x", topic, r.ReasonCode)
	}
	c.Published.Add(1)
	return nil
}
