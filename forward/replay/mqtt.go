package replay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
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
	mqttTimeout   = 10 * time.Second // for connecting, writing, and any answer
	mqttKeepAlive = 30 * time.Second
	mqttWindow    = 1024 // messages in flight, if the broker allows more
)

// MQTT plays records to a broker. A message of QoS 1 or 2 is confirmed by
// PUBACK or PUBCOMP, one of QoS 0 by an answer to anything that was sent behind
// it. Messages leave in the order of the recording; a broker keeps it among those
// of one QoS (MQTT 5 §4.6). Topic alias and subscription identifier are left out: they belong to the
// connection of the recording.
type MQTT struct {
	cfg       MQTTConfig
	version   byte // that is spoken: 5, 4 or 3
	old       bool // one without properties
	conn      net.Conn
	in        *bufio.Reader
	confirmed Confirm
	refused   func(*RefusedError) error
	down      func(error)
	limits    connack
	reading   sync.WaitGroup

	wmu sync.Mutex
	out *bufio.Writer

	mu      sync.Mutex
	flight  []inFlight // in the order in which they were sent
	acked   int        // PUBLISH of QoS 1 and 2 among flight, not acknowledged
	nextID  uint16
	asked   bool // a PINGREQ is unanswered
	closing bool
	heard   time.Time     // when the broker last sent something
	changed chan struct{} // holds one token after flight has become shorter
	closed  chan struct{} // closed with closing
}

// inFlight is a message that is not confirmed.
type inFlight struct {
	seq     mqttetl.Seq
	id      uint16 // 0 for QoS 0
	qos     byte
	pinged  bool // QoS 0: a PINGREQ was sent behind it
	settled bool
	refused bool
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
	m := &MQTT{
		cfg: cfg, version: cfg.Version, confirmed: confirmed, refused: refused, down: down,
		changed: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	if cfg.Version != 0 {
		err = m.connect(ctx, u)
	} else {
		err = dial.EitherVersion(func(v5 bool) error {
			if m.version = version311; v5 {
				m.version = version5
			}
			return m.connect(ctx, u)
		}, func(err error) bool { return errors.Is(err, errVersion) })
	}
	if err != nil {
		return nil, err
	}
	m.reading.Go(m.receive)
	m.reading.Go(m.keepAlive)
	return m, nil
}

// Version is the version of MQTT that is spoken: 5, 4 for 3.1.1, or 3 for 3.1.
func (m *MQTT) Version() byte { return m.version }

// connect opens the stream and logs in. The end of ctx ends both.
func (m *MQTT) connect(ctx context.Context, u *url.URL) error {
	d := dial.Dialer{TLS: m.cfg.TLS}
	conn, err := d.Dial(ctx, u)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", secret.URL(u.String()), err)
	}
	m.conn, m.heard, m.old = conn, time.Now(), m.version != version5
	m.in, m.out = bufio.NewReaderSize(conn, 16<<10), bufio.NewWriterSize(conn, 64<<10)
	unhook := context.AfterFunc(ctx, func() { conn.Close() })
	err = m.login(u)
	if !unhook() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
	}
	return err
}

// login sends CONNECT and reads CONNACK.
func (m *MQTT) login(u *url.URL) error {
	password, _ := u.User.Password()
	packet := appendConnect(nil, m.version, m.cfg.ClientID, u.User.Username(), password)
	m.conn.SetDeadline(time.Now().Add(mqttTimeout))
	defer m.conn.SetDeadline(time.Time{})
	if _, err := m.conn.Write(packet); err != nil {
		return dial.Unanswered(unavailable("connect to "+secret.URL(u.String()), err), m.conn)
	}
	body, err := m.readConnack()
	if err == nil {
		m.limits, err = parseConnack(body, m.old)
	}
	if errors.Is(err, ErrLogin) {
		return mqttetl.WithHint(fmt.Errorf("connect to %s: %w", secret.URL(u.String()), err), loginHint(u))
	}
	if errors.Is(err, errVersion) {
		return mqttetl.WithHint(unavailable("connect to "+secret.URL(u.String()), err), "--mqtt-version auto takes the one that the broker speaks")
	}
	if err != nil {
		return unavailable("connect to "+secret.URL(u.String()), err)
	}
	return nil
}

// readConnack reads the first packet. What is no CONNACK is told by its first
// byte: a server that is no broker may send no whole packet.
func (m *MQTT) readConnack() (body []byte, err error) {
	first, err := m.in.Peek(1)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", mqttTimeout)
	}
	if err != nil {
		return nil, dial.Unanswered(err, m.conn)
	}
	if kind := first[0] >> 4; kind != packetConnack {
		err = fmt.Errorf("packet type %d where CONNACK is expected", kind)
		if kind != packetDisconnect {
			err = mqttetl.WithHint(err, dial.NoBroker(first[0]))
		}
		return nil, err
	}
	_, body, err = readPacket(m.in)
	return body, err
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
	qos := byte(r.Flags.QoS())
	if m.cfg.QoS >= 0 {
		qos = byte(m.cfg.QoS)
	}
	qos = min(qos, m.limits.maxQoS)
	p := publish{topic: r.Topic, payload: r.Payload, qos: qos, retain: r.Flags.Retain() && !m.cfg.NoRetain}
	if !m.old {
		p.properties = publishable(r.Properties)
	}
	if err := p.check(m.limits); err != nil {
		return &RefusedError{r.Seq, err}
	}
	if err := m.reserve(ctx, &p, r.Seq); err != nil {
		return err
	}
	m.wmu.Lock()
	defer m.wmu.Unlock()
	m.conn.SetWriteDeadline(time.Now().Add(mqttTimeout))
	if err := p.write(m.out, m.old); err != nil {
		return unavailable("publish", err)
	}
	return nil
}

// reserve waits for room in flight and enters the message there.
func (m *MQTT) reserve(ctx context.Context, p *publish, seq mqttetl.Seq) error {
	window := min(mqttWindow, int(m.limits.receiveMaximum))
	err := m.await(ctx, func() bool {
		return len(m.flight) < mqttWindow && (p.qos == 0 || m.acked < window)
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.qos > 0 {
		if m.nextID++; m.nextID == 0 {
			m.nextID = 1
		}
		p.id = m.nextID
		m.acked++
	}
	m.flight = append(m.flight, inFlight{seq: seq, id: p.id, qos: p.qos})
	return nil
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

// Flush implements Destination. Behind messages of QoS 0 it asks for an answer.
func (m *MQTT) Flush(context.Context) error {
	m.mu.Lock()
	ask := !m.asked && m.unanswered()
	m.mu.Unlock()
	return m.flush(ask)
}

// unanswered marks the messages of QoS 0 that a PINGREQ sent now would answer,
// and says whether there are any; the lock is held.
func (m *MQTT) unanswered() (any bool) {
	for i := range m.flight {
		if f := &m.flight[i]; f.qos == 0 && !f.settled {
			f.pinged, any = true, true
		}
	}
	m.asked = m.asked || any
	return any
}

func (m *MQTT) flush(ask bool) error {
	m.wmu.Lock()
	defer m.wmu.Unlock()
	m.conn.SetWriteDeadline(time.Now().Add(mqttTimeout))
	if ask {
		m.out.Write([]byte{packetPingreq << 4, 0}) // Flush returns its error
	}
	if err := m.out.Flush(); err != nil {
		return unavailable("publish", err)
	}
	return nil
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
	close(m.closed)
	m.wmu.Lock()
	m.conn.SetWriteDeadline(time.Now().Add(time.Second))
	m.out.Write([]byte{packetDisconnect << 4, 0})
	m.out.Flush() // if it cannot be told, the broker sees it
	m.wmu.Unlock()
	m.conn.Close()
	m.reading.Wait()
	return nil
}

func (m *MQTT) isClosing() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closing
}

// lost ends the connection and, unless that was wanted, the replay. A broker may
// end it for a message that it does not take: the first one without an answer
// is where to look.
func (m *MQTT) lost(err error) {
	m.conn.Close()
	if m.isClosing() {
		return
	}
	if seq, ok := m.oldest(); ok {
		err = fmt.Errorf("%w; record %d is the first without an answer", err, seq)
	}
	m.down(unavailable("connection to the broker", err))
}

// oldest is the first record in flight.
func (m *MQTT) oldest() (seq mqttetl.Seq, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.flight {
		if !m.flight[i].settled {
			return m.flight[i].seq, true
		}
	}
	return 0, false
}

// keepAlive sees to it that the broker hears from us, and we from the broker.
func (m *MQTT) keepAlive() {
	every := mqttKeepAlive / 2
	if m.limits.keepAlive > 0 {
		every = min(every, m.limits.keepAlive/2)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-m.closed:
			return
		}
		if err := m.alive(); err != nil {
			m.lost(err)
			return
		}
	}
}

// alive asks whether the broker is there, unless that is asked already. It marks
// no message: one may be entered in flight and not written yet, and the answer to
// an earlier question is none to this.
func (m *MQTT) alive() error {
	m.mu.Lock()
	ask := !m.asked
	m.asked = true
	dead := time.Since(m.heard) > mqttKeepAlive
	m.mu.Unlock()
	if dead {
		return errors.New("it has not answered for " + mqttKeepAlive.String())
	}
	return m.flush(ask)
}
