package replay

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// MQTTConfig says which broker, and how messages are published there.
type MQTTConfig struct {
	URL      string // mqtt://host[:1883], mqtts://host[:8883], ws://host[:80]/path or wss://host[:443]/path; user and password may stand in it
	ClientID string // "": the broker, or for 3.1.1 nobody, gives one
	Version  byte   // 5, or 4 for MQTT 3.1.1 and 3 for 3.1, which have no properties; 0: 5, and 3.1.1 where the broker does not speak it
	TLS      dial.TLS
	QoS      int  // 0 to 2; negative: as recorded
	NoRetain bool // never set RETAIN; otherwise as recorded
}

const (
	mqttKeepAlive = 20   // seconds; a broker that is silent for half as long again is lost
	mqttWindow    = 1024 // messages in flight, if the broker allows more
)

// ErrLogin: the broker does not let us in.
var ErrLogin = errors.New("login refused")

// MQTT plays records to a broker. A message of QoS 1 or 2 is confirmed by
// PUBACK or PUBCOMP, one of QoS 0 by an answer to anything that was sent after
// it. Messages leave in the order of the recording; a broker keeps it among those
// of one QoS (MQTT 5 §4.6). Topic alias and subscription identifier are left out: they belong to the
// connection of the recording.
type MQTT struct {
	cfg       MQTTConfig
	client    *client.Client
	confirmed Confirm
	refused   func(*RefusedError) error
	down      func(error)
	watching  sync.WaitGroup

	mu      sync.Mutex
	flight  []inFlight       // in the order in which they were sent
	acked   int              // PUBLISH of QoS 1 and 2 among flight, not acknowledged
	early   map[uint16]error // answers to messages that are not yet in flight
	asked   uint64           // the PINGREQ that was sent last after a message of QoS 0
	pinged  uint64           // the one that was answered last
	closing bool
	changed chan struct{} // holds one token after flight has become shorter
}

// inFlight is a message that is not confirmed.
type inFlight struct {
	seq      mqttetl.Seq
	id       uint16 // 0 for QoS 0
	ping     uint64 // QoS 0: the PINGREQ that was sent after it, 0 for none
	answered bool
	refused  bool
}

// OpenMQTT connects. Errors wrap mqttetl.ErrUnavailable, or ErrLogin where the
// broker does not let us in. refused is told of messages that the broker
// refuses; if it returns an error the replay ends. down is called when the
// connection is lost.
func OpenMQTT(ctx context.Context, cfg MQTTConfig, confirmed Confirm, refused func(*RefusedError) error, down func(error)) (*MQTT, error) {
	u, err := dial.URL(cfg.URL)
	if err != nil {
		return nil, err
	}
	m := &MQTT{cfg: cfg, confirmed: confirmed, refused: refused, down: down, early: map[uint16]error{}, changed: make(chan struct{}, 1)}
	if err := m.connect(ctx, u); err != nil {
		return nil, err
	}
	m.watching.Go(func() {
		<-m.client.Done()
		m.lost(m.client.Err())
	})
	return m, nil
}

// Version is the version of MQTT that is spoken: 5, 4 for 3.1.1, or 3 for 3.1.
func (m *MQTT) Version() byte { return m.client.Version() }

// connect opens the stream and logs in. The end of ctx ends both.
func (m *MQTT) connect(ctx context.Context, u *url.URL) (err error) {
	o := client.Options{
		Version: m.cfg.Version, ClientID: m.cfg.ClientID, Username: u.User.Username(), CleanStart: true, KeepAlive: mqttKeepAlive,
		Window: mqttWindow, Acknowledged: m.acknowledged, Pinged: m.answeredPing,
	}
	if o.Version == client.Version31 { // which has no client id that the broker gives (3.1 §3.1)
		o.ClientID = cmp.Or(o.ClientID, "mqttetl-"+rand.Text()[:12])
	}
	if password, _ := u.User.Password(); password != "" {
		o.Password = []byte(password)
	}
	d := dial.Dialer{TLS: m.cfg.TLS}
	var undialed error
	m.client, err = client.ConnectAuto(ctx, func(ctx context.Context) (conn net.Conn, err error) {
		conn, err = d.Dial(ctx, u)
		undialed = err
		return conn, err
	}, o)
	at := "connect to " + secret.URL(u.String())
	var r *client.Refusal
	switch {
	case err == nil:
		return nil
	case undialed != nil:
		return fmt.Errorf("%s: %w", at, err)
	case errors.As(err, &r) && r.Login():
		return mqttetl.WithHint(fmt.Errorf("%s: %w: %w", at, ErrLogin, err), loginHint(u))
	case errors.As(err, &r) && r.Version():
		return mqttetl.WithHint(unavailable(at, err), "--mqtt-version auto takes the one that the broker speaks")
	}
	return unavailable(at, err)
}

// loginHint says where to give what a broker asks for.
func loginHint(u *url.URL) string {
	if u.User == nil {
		return fmt.Sprintf("user and password go into the URL: %s://user:password@%s", u.Scheme, u.Host)
	}
	return fmt.Sprintf("check user and password in %s://user:password@%s, in which @, : and / are written %%40, %%3A and %%2F, the client id, and the broker's access rules",
		u.Scheme, u.Host)
}

// Send implements Destination.
func (m *MQTT) Send(ctx context.Context, r *mqttetl.Record) error {
	p, err := m.message(r)
	if err != nil {
		return &RefusedError{r.Seq, err}
	}
	window := min(mqttWindow, m.client.ReceiveMaximum)
	err = m.await(ctx, func() bool {
		return len(m.flight) < mqttWindow && (p.QoS == 0 || m.acked < window)
	})
	if err != nil {
		return err
	}
	id, err := m.client.Publish(p)
	if err != nil {
		return unavailable("publish", err)
	}
	m.enter(r.Seq, id)
	return nil
}

// message is r as it is published, or why the broker would never take it.
func (m *MQTT) message(r *mqttetl.Record) (*client.Message, error) {
	qos := byte(r.Flags.QoS())
	if m.cfg.QoS >= 0 {
		qos = byte(m.cfg.QoS)
	}
	p := &client.Message{
		Topic: string(r.Topic), Payload: r.Payload, QoS: min(qos, m.client.MaximumQoS),
		Retain: r.Flags.Retain() && !m.cfg.NoRetain, Properties: client.Properties(publishable(r.Properties)),
	}
	if p.Retain && m.client.RetainRefused {
		return nil, errors.New("retained, which the broker does not take; --no-retain plays it as any other")
	}
	return p, errors.Join(p.Check(), m.client.Takes(p))
}

// publishable is p without what a client must not send (subscription
// identifier, MQTT 5 §3.3.4) and without the alias of another connection.
func publishable(p mqttetl.Properties) mqttetl.Properties {
	for v := range p.All() {
		if v.ID == mqttetl.SubscriptionIdentifier || v.ID == mqttetl.TopicAlias {
			return without(p)
		}
	}
	return p
}

func without(p mqttetl.Properties) (kept mqttetl.Properties) {
	for v := range p.All() {
		switch v.ID {
		case mqttetl.SubscriptionIdentifier, mqttetl.TopicAlias:
		default:
			kept = v.Append(kept)
		}
	}
	return kept
}

// enter notes a message that has been given to the client. The broker may have
// answered it already.
func (m *MQTT) enter(seq mqttetl.Seq, id uint16) {
	m.mu.Lock()
	m.flight = append(m.flight, inFlight{seq: seq, id: id})
	if id > 0 {
		m.acked++
	}
	answer, answered := m.early[id]
	delete(m.early, id)
	m.mu.Unlock()
	if answered {
		m.acknowledged(id, answer)
	}
}

// await waits until ok, called with the lock held, returns true. Before it
// sleeps it lets everything leave, so that there is something to wait for.
func (m *MQTT) await(ctx context.Context, ok func() bool) error {
	for {
		m.mu.Lock()
		done := ok()
		m.mu.Unlock()
		if done {
			return nil
		}
		if err := m.Flush(ctx); err != nil {
			return err
		}
		select {
		case <-m.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Flush implements Destination. After messages of QoS 0 it asks for an answer,
// unless it waits for one.
func (m *MQTT) Flush(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked > m.pinged || !m.ask() {
		m.client.Flush()
	}
	if err := m.client.Err(); err != nil {
		return unavailable("publish", err)
	}
	return nil
}

// ask sends a PINGREQ, if there are messages of QoS 0 whose arrival the answer
// shows, and says whether it has; the lock is held.
func (m *MQTT) ask() (asks bool) {
	for i := range m.flight {
		if f := &m.flight[i]; f.id == 0 && !f.answered && f.ping == 0 {
			if !asks {
				m.asked, asks = m.client.Ping(), true
			}
			f.ping = m.asked
		}
	}
	return asks
}

// Drain implements Destination.
func (m *MQTT) Drain(ctx context.Context) error {
	return m.await(ctx, func() bool { return len(m.flight) == 0 })
}

// Close implements Destination.
func (m *MQTT) Close() error {
	m.mu.Lock()
	m.closing = true
	m.mu.Unlock()
	m.client.Disconnect(0)
	m.watching.Wait()
	return nil
}

// lost ends the replay, unless the end was wanted. A broker may end a connection
// for a message that it does not take: the first one without an answer
// is where to look.
func (m *MQTT) lost(err error) {
	m.mu.Lock()
	closing := m.closing
	seq, ok := m.oldest()
	m.mu.Unlock()
	if closing {
		return
	}
	if ok {
		err = fmt.Errorf("%w; record %d is the first without an answer", err, seq)
	}
	m.down(unavailable("connection to the broker", err))
}

// oldest is the first record in flight; the lock is held.
func (m *MQTT) oldest() (seq mqttetl.Seq, ok bool) {
	for i := range m.flight {
		if !m.flight[i].answered {
			return m.flight[i].seq, true
		}
	}
	return 0, false
}

// acknowledged takes the broker's last answer to a message, which may be one
// that it refuses.
func (m *MQTT) acknowledged(id uint16, refusal error) {
	seq, ok := m.answer(id, refusal)
	if !ok {
		return
	}
	if refusal != nil {
		if err := m.refused(&RefusedError{seq, refusal}); err != nil {
			m.down(err)
			return // the position stays before it, whatever is acknowledged after it
		}
		m.pass(seq)
	}
	m.advance()
}

// pass lets the position go on after a refused message.
func (m *MQTT) pass(seq mqttetl.Seq) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.flight {
		if m.flight[i].seq == seq {
			m.flight[i].answered = true
		}
	}
}

// answer enters that a message, and with it every message of QoS 0 before it,
// has arrived. One that was refused is not answered before pass.
func (m *MQTT) answer(id uint16, refusal error) (seq mqttetl.Seq, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.flight {
		f := &m.flight[i]
		if f.id == id && !f.answered && !f.refused {
			f.answered, f.refused = refusal == nil, refusal != nil
			m.acked--
			for j := range i {
				if m.flight[j].id == 0 {
					m.flight[j].answered = true
				}
			}
			return f.seq, true
		}
	}
	m.early[id] = refusal
	return 0, false
}

// answeredPing enters that the messages of QoS 0 before a PINGREQ have arrived.
func (m *MQTT) answeredPing(n uint64) {
	m.mu.Lock()
	m.pinged = n
	for i := range m.flight {
		if f := &m.flight[i]; f.ping > 0 && f.ping <= n {
			f.answered = true
		}
	}
	m.mu.Unlock()
	m.advance()
}

// advance confirms what is answered at the front: the position has no holes. It
// holds the lock meanwhile: Drain returns when nothing is in flight, and by then
// all must be confirmed.
func (m *MQTT) advance() {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, took := 0, 0
	var last mqttetl.Seq
	for n < len(m.flight) && m.flight[n].answered {
		last = m.flight[n].seq
		if !m.flight[n].refused {
			took++
		}
		n++
	}
	m.flight = append(m.flight[:0], m.flight[n:]...)
	if n > 0 {
		m.confirmed(last, took)
	}
	select {
	case m.changed <- struct{}{}:
	default:
	}
}
