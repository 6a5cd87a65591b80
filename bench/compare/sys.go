package compare

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// What Mosquitto counts, of PUBLISH packets.
const (
	sysReceived = "$SYS/broker/publish/messages/received"
	sysSent     = "$SYS/broker/publish/messages/sent"
	sysDropped  = "$SYS/broker/publish/messages/dropped"
	sysUptime   = "$SYS/broker/uptime" // comes with every update, the others when they change
	sysVersion  = "$SYS/broker/version"
)

// The broker's updates.
const (
	// sysMost is how far they may be apart to be waited for.
	sysMost = 3 * time.Second
	// sysBurst is how long an update may take to arrive.
	sysBurst = 60 * time.Millisecond
)

// sysWatch hears what a broker says about itself.
type sysWatch struct {
	c *client.Client

	mu      sync.Mutex
	values  map[string]uint64
	version string
	seen    uint64    // messages that the broker has sent to this watch
	ticks   int       // updates
	tick    time.Time // the latest
}

// watchSys connects and subscribes.
func watchSys(ctx context.Context, broker brokerAt, id string) (*sysWatch, error) {
	d := dial.Dialer{TLS: broker.tls}
	conn, err := d.Dial(ctx, broker.URL)
	if err != nil {
		return nil, err
	}
	w := &sysWatch{values: map[string]uint64{}}
	password, has := broker.User.Password()
	o := client.Options{
		Version: client.Version311, ClientID: id, Username: broker.User.Username(), CleanStart: true, KeepAlive: 30, Receive: w.receive,
	}
	if has {
		o.Password = []byte(password)
	}
	if w.c, err = client.Connect(ctx, conn, o); err != nil {
		return nil, err
	}
	var filters []client.Filter
	for _, t := range []string{sysReceived, sysSent, sysDropped, sysUptime, sysVersion} {
		filters = append(filters, client.Filter{Topic: t})
	}
	if _, err := w.c.Subscribe(ctx, filters, nil); err != nil {
		w.c.Close()
		return nil, err
	}
	return w, nil
}

func (w *sysWatch) receive(m *client.Received) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := string(m.Payload)
	switch topic := string(m.Topic); topic {
	case sysUptime:
		if !m.Flags.Retain() { // which belongs to an update before we came
			w.ticks++
			w.tick = time.Now()
		}
	case sysVersion:
		w.version = text
	default:
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return nil // not a number: not what we know
		}
		if topic == sysSent {
			n -= min(n, w.seen) // what was sent to us
		}
		w.values[topic] = n
	}
	w.seen++
	return nil
}

// state is a copy of what has come.
func (w *sysWatch) state() (values map[string]uint64, ticks int, tick time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	values = map[string]uint64{sysReceived: 0, sysSent: 0, sysDropped: 0}
	for k, v := range w.values {
		values[k] = v
	}
	return values, w.ticks, w.tick
}

// broker is the version that the broker tells, "" if none.
func (w *sysWatch) broker() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.version
}

// interval measures the time between two updates; 0: they do not come, or so
// seldom that nobody can wait for them.
func (w *sysWatch) interval(ctx context.Context) time.Duration {
	var first time.Time
	begun := time.Now()
	_, from, _ := w.state()
	for ctx.Err() == nil && time.Since(begun) < 2*sysMost {
		_, n, tick := w.state()
		if n > from && first.IsZero() {
			first, from = tick, n
		} else if n > from {
			return tick.Sub(first)
		}
		backoff.Pause(ctx, 10*time.Millisecond)
	}
	return 0
}

// read waits for an update that was made after since.
func (w *sysWatch) read(ctx context.Context, since time.Time) (map[string]uint64, error) {
	for begun := time.Now(); ; backoff.Pause(ctx, 10*time.Millisecond) {
		values, _, tick := w.state()
		if tick.After(since.Add(sysBurst)) && time.Since(tick) > sysBurst {
			return values, nil
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case w.c.Err() != nil:
			return nil, fmt.Errorf("$SYS: %w", w.c.Err())
		case time.Since(begun) > 2*sysMost:
			return nil, fmt.Errorf("$SYS: no update within %v", 2*sysMost)
		}
	}
}
