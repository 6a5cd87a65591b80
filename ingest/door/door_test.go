package door

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	mqtt "github.com/mqttetl/mqttetl/internal/client"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// fakeLog keeps what it is given, and is done with it when the test says so.
type fakeLog struct {
	mu      sync.Mutex
	held    bool // nothing is done
	waiting []*mqttetl.Batch
	records []mqttetl.Record
	ids     map[string][]uint16
	err     error
	changed chan struct{}
}

func newFakeLog() *fakeLog {
	return &fakeLog{ids: map[string][]uint16{}, changed: make(chan struct{}, 1)}
}

func (l *fakeLog) Append(b *mqttetl.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, b)
	l.commit()
}

func (l *fakeLog) Hurry() {}

func (l *fakeLog) PacketIDs(session string) ([]uint16, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ids[session]), nil
}

func (l *fakeLog) hold(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = on
	l.commit()
}

// allIDs are the packet ids of all sessions.
func (l *fakeLog) allIDs() (list []uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ids := range l.ids {
		list = append(list, ids...)
	}
	return list
}

// pending is how many batches wait.
func (l *fakeLog) pending() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// commit does what a commit does to all that waits.
func (l *fakeLog) commit() {
	for len(l.waiting) > 0 && !l.held {
		b := l.waiting[0]
		l.waiting = l.waiting[1:]
		first := mqttetl.Seq(len(l.records) + 1)
		recs, err := mqttetl.DecodeRecords(nil, b.Bytes(), b.Len(), first, b.Source)
		if err != nil {
			panic(err)
		}
		for i := range recs {
			l.records = append(l.records, recs[i].Clone())
		}
		for _, c := range b.IDs {
			ids := l.ids[b.Session]
			switch at := slices.Index(ids, c.ID); {
			case c.Op == mqttetl.IDsCleared:
				ids = nil
			case c.Op == mqttetl.IDAdded && at < 0:
				ids = append(ids, c.ID)
			case c.Op == mqttetl.IDRemoved && at >= 0:
				ids = slices.Delete(ids, at, at+1)
			}
			l.ids[b.Session] = ids
		}
		b.Done(first, l.err)
	}
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// texts are the records as "topic=payload".
func (l *fakeLog) texts() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		list = append(list, fmt.Sprintf("%s=%s", r.Topic, r.Payload))
	}
	return list
}

// await waits until ok says that what it looks at is there.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// open starts a door for the test. What is left out of the configuration is its default.
func open(t *testing.T, log Log, cfg Config) *Door {
	t.Helper()
	d, _ := openAndStop(t, log, cfg)
	return d
}

// openAndStop returns what stops the door, too.
func openAndStop(t *testing.T, log Log, cfg Config) (*Door, context.CancelFunc) {
	t.Helper()
	cfg.Name = "door"
	if cfg.URL == "" {
		cfg.URL = "mqtt://127.0.0.1:0"
	}
	cfg.Anonymous = cfg.Anonymous || cfg.PasswordFile == "" && !cfg.CommonName
	for _, v := range []struct {
		p *int
		d int
	}{{&cfg.MaxConnections, 100}, {&cfg.MaxPacket, 1 << 20}} {
		if *v.p == 0 {
			*v.p = v.d
		}
	}
	if cfg.ReceiveMaximum == 0 {
		cfg.ReceiveMaximum = 100
	}
	if cfg.KeepAliveMax == 0 {
		cfg.KeepAliveMax = 10 * time.Minute
	}
	d, err := Open(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the door does not close")
		}
	})
	return d, stop
}

func dial(t *testing.T, d *Door) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	return nc
}

func connect(t *testing.T, d *Door, o mqtt.Options) (*mqtt.Client, error) {
	t.Helper()
	if o.Version == 0 {
		o.Version = mqtt.Version5
	}
	c, err := mqtt.Connect(context.Background(), dial(t, d), o)
	if err == nil {
		t.Cleanup(c.Close)
	}
	return c, err
}

func mustConnect(t *testing.T, d *Door, o mqtt.Options) *mqtt.Client {
	t.Helper()
	c, err := connect(t, d, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func publish(t *testing.T, c *mqtt.Client, messages ...mqtt.Message) {
	t.Helper()
	for i := range messages {
		if _, err := c.Publish(&messages[i]); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Drain(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestPublish: every version and QoS, and payloads of many sizes, become records,
// byte for byte, in order.
func TestPublish(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{})
	var want []string
	for _, version := range []byte{mqtt.Version31, mqtt.Version311, mqtt.Version5} {
		c := mustConnect(t, d, mqtt.Options{Version: version, ClientID: "c", CleanStart: true})
		for qos := range byte(3) {
			for _, size := range []int{0, 1, 200, 40_000, 900_000} {
				m := mqtt.Message{Topic: fmt.Sprintf("t/%d/%d", version, qos), QoS: qos, Payload: make([]byte, size)}
				for i := range m.Payload {
					m.Payload[i] = byte(i)
				}
				publish(t, c, m)
				want = append(want, fmt.Sprintf("%s=%s", m.Topic, m.Payload))
			}
		}
		c.Close()
	}
	await(t, "all records", func() bool { return len(log.texts()) == len(want) })
	if got := log.texts(); !slices.Equal(got, want) {
		t.Errorf("the records differ")
	}
}

// TestAcknowledgedAfterCommit: no PUBACK and no PUBREC leaves before the log is done.
func TestAcknowledgedAfterCommit(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		log := newFakeLog()
		log.hold(true)
		d := open(t, log, Config{})
		acked := make(chan error, 1)
		c := mustConnect(t, d, mqtt.Options{ClientID: "c", CleanStart: true, Acknowledged: func(_ uint16, err error) { acked <- err }})
		if _, err := c.Publish(&mqtt.Message{Topic: "a", QoS: qos}); err != nil {
			t.Fatal(err)
		}
		c.Flush()
		await(t, "the batch", func() bool { log.mu.Lock(); defer log.mu.Unlock(); return len(log.waiting) == 1 })
		select {
		case <-acked:
			t.Errorf("QoS %d: acknowledged before the commit", qos)
		case <-time.After(50 * time.Millisecond):
		}
		log.hold(false)
		select {
		case err := <-acked:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Errorf("QoS %d: not acknowledged after the commit", qos)
		}
	}
}

// TestFailingLog: what the log does not take is not acknowledged, and ends the door.
func TestFailingLog(t *testing.T) {
	log := newFakeLog()
	log.err = errors.New("broken drive")
	d, err := Open(Config{Name: "door", URL: "mqtt://127.0.0.1:0", Anonymous: true, MaxConnections: 1, MaxPacket: 1 << 20, ReceiveMaximum: 1, KeepAliveMax: time.Minute}, log)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.Run(context.Background()) }()
	acked := make(chan error, 1)
	c := mustConnect(t, d, mqtt.Options{ClientID: "c", CleanStart: true, Acknowledged: func(_ uint16, err error) { acked <- err }})
	if _, err := c.Publish(&mqtt.Message{Topic: "a", QoS: 1}); err != nil {
		t.Fatal(err)
	}
	c.Flush()
	select {
	case err := <-ended:
		if !errors.Is(err, log.err) {
			t.Errorf("the door ends with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the door does not end")
	}
	select {
	case <-acked:
		t.Error("acknowledged what is not stored")
	default:
	}
}
