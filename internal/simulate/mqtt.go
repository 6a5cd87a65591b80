package simulate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// MQTTConfig says where to publish to an MQTT broker.
type MQTTConfig struct {
	URL         string // mqtt, mqtts, ws or wss; with user and password if it needs them
	ClientID    string // of the first connection; further ones append "-2", "-3", …
	Version     byte   // client.Version5, client.Version311 or client.VersionAuto
	QoS         byte
	Connections int // 1 or more; a device keeps to one
	TLS         dial.TLS
}

// oldWindow is how many messages of QoS 2 a publisher with MQTT 3.1.1, to which
// the broker tells no receive maximum, has in flight: Mosquitto ends the
// connection at more than its max_inflight_messages, 20, where
// max_queued_messages is 0.
const oldWindow = 20

// MQTT publishes to an MQTT broker. With QoS 0, which has no confirmation, a
// message counts as confirmed when it has been written to the connection.
type MQTT struct {
	qos       byte
	clients   []*client.Client
	dirty     []bool // published and not flushed
	sent      atomic.Uint64
	confirmed atomic.Uint64
	done      chan struct{}

	mu  sync.Mutex
	err error
}

// OpenMQTT connects. A broker that cannot be reached is an error that wraps
// mqttetl.ErrUnavailable.
func OpenMQTT(ctx context.Context, cfg MQTTConfig) (*MQTT, error) {
	t := &MQTT{
		qos: cfg.QoS, clients: make([]*client.Client, cfg.Connections), dirty: make([]bool, cfg.Connections), done: make(chan struct{}),
	}
	var err error
	if t.clients[0], err = t.connect(ctx, cfg, 0); err != nil {
		return nil, err
	}
	cfg.Version = t.clients[0].Version() // what has been found out holds for all
	group, dialing := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := 1; i < len(t.clients); i++ {
		group.Go(func() (err error) {
			t.clients[i], err = t.connect(dialing, cfg, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *MQTT) connect(ctx context.Context, cfg MQTTConfig, i int) (*client.Client, error) {
	u, err := dial.URL(cfg.URL)
	if err != nil {
		return nil, err
	}
	d := dial.Dialer{TLS: cfg.TLS}
	o := client.Options{Version: cfg.Version, ClientID: cfg.ClientID, CleanStart: true, KeepAlive: 30, Acknowledged: t.acknowledged}
	if cfg.QoS == 2 {
		o.Window311 = oldWindow
	}
	if i > 0 {
		o.ClientID = fmt.Sprintf("%s-%d", cfg.ClientID, i+1)
	}
	if o.Username = u.User.Username(); o.Username != "" {
		password, _ := u.User.Password()
		o.Password = []byte(password)
	}
	c, err := client.ConnectAuto(ctx, func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, u) }, o)
	if err != nil {
		return nil, fmt.Errorf("broker %s: %w", secret.URL(u.String()), err)
	}
	go func() {
		<-c.Done()
		t.fail(c.Err())
	}()
	return c, nil
}

// acknowledged counts an answer of the broker.
func (t *MQTT) acknowledged(_ uint16, err error) {
	if err == nil {
		t.confirmed.Add(1)
		return
	}
	t.fail(fmt.Errorf("a message refused: %w", err))
}

// fail ends the target with a reason. Only the first counts.
func (t *MQTT) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
		close(t.done)
	}
}

// Version is the version of MQTT that is spoken.
func (t *MQTT) Version() byte { return t.clients[0].Version() }

// Publish sends m on the connection of its device.
func (t *MQTT) Publish(_ context.Context, m *Message) error {
	i := m.Device % len(t.clients)
	if _, err := t.clients[i].Publish(&client.Message{Topic: m.Topic, Payload: m.Payload, QoS: t.qos}); err != nil {
		return fmt.Errorf("publish %s: %w", m.Topic, err)
	}
	t.dirty[i] = true
	t.sent.Add(1)
	return nil
}

// Flush lets everything leave.
func (t *MQTT) Flush() {
	for i, dirty := range t.dirty {
		if dirty {
			t.clients[i].Flush()
			t.dirty[i] = false
		}
	}
}

// Drain waits until everything has left and is acknowledged.
func (t *MQTT) Drain(ctx context.Context) error {
	var errs []error
	for _, c := range t.clients {
		errs = append(errs, c.Drain(ctx))
	}
	if t.qos == 0 {
		t.confirmed.Store(t.sent.Load())
	}
	return errors.Join(append(errs, t.Err())...)
}

// Done is closed when a connection is lost or a message has been refused.
func (t *MQTT) Done() <-chan struct{} { return t.done }

// Err is why Done is closed.
func (t *MQTT) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Confirmed is how many messages the broker has acknowledged.
func (t *MQTT) Confirmed() uint64 { return t.confirmed.Load() }

// Close says goodbye.
func (t *MQTT) Close() {
	t.fail(errors.New("closed"))
	var all sync.WaitGroup
	for _, c := range t.clients {
		if c != nil {
			all.Go(func() { c.Disconnect(0) })
		}
	}
	all.Wait()
}
