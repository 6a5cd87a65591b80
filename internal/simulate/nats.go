package simulate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// NATSConfig says where to publish to NATS.
type NATSConfig struct {
	URL    string
	Prefix string // first token of every subject; the topic follows as the forwarder maps it
	Stream string // JetStream stream, made if absent; "" for core NATS
	Creds  string // credentials file, or ""
	TLS    dial.TLS
}

// natsWindow is how many messages to JetStream are unconfirmed at once.
const natsWindow = 4000

// subjectsOverlap is JetStream's code for subjects that another stream has.
const subjectsOverlap = 10065

// NATS publishes to core NATS, where confirmed means that the server has read
// the message (a PONG after it), or to a JetStream stream, where it means a
// PubAck.
type NATS struct {
	prefix string
	conn   *nats.Conn
	js     jetstream.JetStream // nil: core
	sent   atomic.Uint64
	read   atomic.Uint64 // by the server, core
	failed atomic.Uint64 // in JetStream
	done   chan struct{}

	mu  sync.Mutex
	err error
}

// OpenNATS connects, and makes the stream if it is absent. A server that cannot
// be reached is an error that wraps mqttetl.ErrUnavailable.
func OpenNATS(ctx context.Context, cfg NATSConfig) (*NATS, error) {
	t := &NATS{prefix: cfg.Prefix, done: make(chan struct{})}
	options := []nats.Option{
		nats.NoReconnect(), nats.Timeout(10 * time.Second), nats.Name("mqttetl simulate"),
		nats.ClosedHandler(func(c *nats.Conn) {
			t.fail(fmt.Errorf("connection to NATS: %w (%w)", cause(c.LastError()), mqttetl.ErrUnavailable))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { t.fail(fmt.Errorf("NATS: %w", err)) }),
	}
	if cfg.Creds != "" {
		options = append(options, nats.UserCredentials(cfg.Creds))
	}
	var err error
	to := dial.NATS{TLS: cfg.TLS, Messages: dial.MaxAnswer}
	if t.conn, err = to.Connect(ctx, cfg.URL, options...); err != nil {
		if _, ours := errors.AsType[*fs.PathError](err); ours { // --creds, --ca, --cert, --key
			return nil, err
		}
		lost := errors.Is(err, nats.ErrNoServers)
		if err = fmt.Errorf("connect to NATS at %s: %w (%w)", secret.URL(cfg.URL), err, mqttetl.ErrUnavailable); lost {
			err = mqttetl.WithHint(err, "start nats-server, or name its host and port: 4222 is the usual one")
		}
		return nil, dial.Certificate(err)
	}
	if cfg.Stream != "" {
		if err := t.openStream(ctx, cfg); err != nil {
			t.Close()
			return nil, fmt.Errorf("stream %s: %w", cfg.Stream, err)
		}
	}
	return t, nil
}

func cause(err error) error {
	if err == nil {
		return errors.New("closed by the server")
	}
	return err
}

// openStream uses the stream as it is, or makes one with file storage.
func (t *NATS) openStream(ctx context.Context, cfg NATSConfig) (err error) {
	t.js, err = jetstream.New(t.conn, jetstream.WithPublishAsyncMaxPending(natsWindow),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) {
			t.failed.Add(1)
			t.fail(fmt.Errorf("publish %s: %w", m.Subject, err))
		}))
	if err != nil {
		return err
	}
	_, err = t.js.Stream(ctx, cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = t.js.CreateStream(ctx, jetstream.StreamConfig{Name: cfg.Stream, Subjects: []string{cfg.Prefix + ".>"}, Storage: jetstream.FileStorage})
	}
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
		return mqttetl.WithHint(fmt.Errorf("JetStream is off on this server: %w (%w)", err, mqttetl.ErrUnavailable),
			"nats-server -js turns it on; without --stream messages go to core NATS")
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == subjectsOverlap {
		return mqttetl.WithHint(fmt.Errorf("%w (%w)", err, mqttetl.ErrUnavailable), fmt.Sprintf("another stream takes subjects of %s.>: name that one as --stream, or set another --subject-prefix", cfg.Prefix))
	}
	return err
}

func (t *NATS) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
		close(t.done)
	}
}

// Publish sends m under the subject of its topic.
func (t *NATS) Publish(ctx context.Context, m *Message) error {
	subject, _ := natsmsg.Subject(t.prefix, []byte(m.Topic))
	err := t.publish(ctx, subject, m.Payload)
	if err != nil {
		return errors.Join(t.Err(), fmt.Errorf("publish %s: %w", subject, err))
	}
	t.sent.Add(1)
	return nil
}

// publish waits by itself while the window is full: the library gives up after
// a fixed time.
func (t *NATS) publish(ctx context.Context, subject string, payload []byte) error {
	if t.js == nil {
		return t.conn.Publish(subject, payload)
	}
	for t.js.PublishAsyncPending() >= natsWindow {
		if !wait(ctx, t, time.Millisecond) {
			return errors.Join(ctx.Err(), t.Err())
		}
	}
	_, err := t.js.PublishAsync(subject, payload)
	return err
}

// Flush is left to the library, which writes by itself.
func (t *NATS) Flush() {}

// Drain waits for the PubAcks, or until the server has read everything.
func (t *NATS) Drain(ctx context.Context) error {
	if t.js != nil {
		select {
		case <-t.js.PublishAsyncComplete():
			return t.Err()
		case <-t.done:
			return t.Err()
		case <-ctx.Done():
			return fmt.Errorf("%d messages without PubAck: %w", t.js.PublishAsyncPending(), context.Cause(ctx))
		}
	}
	sent := t.sent.Load()
	if err := t.conn.FlushWithContext(ctx); err != nil {
		return errors.Join(t.Err(), err)
	}
	t.read.Store(sent)
	return t.Err()
}

// Done is closed when the connection is lost or a message has been refused.
func (t *NATS) Done() <-chan struct{} { return t.done }

// Err is why Done is closed.
func (t *NATS) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Confirmed is how many messages the server has confirmed.
func (t *NATS) Confirmed() uint64 {
	if t.js == nil {
		return t.read.Load()
	}
	return t.sent.Load() - min(t.sent.Load(), uint64(t.js.PublishAsyncPending())+t.failed.Load())
}

// Close drops the connection.
func (t *NATS) Close() {
	t.fail(errors.New("closed"))
	t.conn.Close()
}
