package ingest

import (
	"bytes"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// line is a conn under test, without a control plane, and the broker's end of it.
type line struct {
	conn    *conn
	log     *fakeLog
	broker  net.Conn
	control chan []byte // what the control plane would read
	ended   chan error
}

// newWire connects a conn to a broker's end. With a log that knows nothing, the
// session has been there before when present is set.
func newWire(t testing.TB, log *fakeLog, v5, present bool, change func(*link)) *line {
	t.Helper()
	l := newTestLink(t, log, change)
	if present { // then it has been noted as well
		level := byte(4)
		if v5 {
			level = 5
		}
		log.notes[l.sessionNote()] = (&past{confirmed: true, level: level, kept: true}).note()
	}
	w := attach(t, l, log, v5)
	w.connack(t, v5, present)
	return w
}

func newTestLink(t testing.TB, log Log, change func(*link)) *link {
	t.Helper()
	cfg := Config{Name: "s", ClientID: "c", URL: "mqtt://h", Subscribe: []string{"#"}}.withDefaults()
	u, _ := url.Parse("mqtt://h:1883")
	counters := newSourceCounters(cfg.Metrics, cfg.Name)
	l := newLink(&cfg, 0, u, log, counters, &dropped{gauge: counters.dropped, logger: cfg.Logger})
	if change != nil {
		change(l)
	}
	l.session.Logger = l.logger
	return l
}

// attach makes a conn of l with a reader in the place of the control plane.
func attach(t testing.TB, l *link, log *fakeLog, v5 bool) *line {
	t.Helper()
	ours, brokers := tcpPair(t)
	w := &line{conn: newConn(ours, l, v5), log: log, broker: brokers, control: make(chan []byte, 1000), ended: make(chan error, 1)}
	go func() {
		p := make([]byte, 64<<10)
		for {
			n, err := w.conn.Read(p)
			if err != nil {
				w.ended <- err
				return
			}
			w.control <- bytes.Clone(p[:n])
		}
	}()
	t.Cleanup(func() {
		_ = w.conn.Close()
		_ = brokers.Close()
		l.tasks.Wait()
		l.session.Wait()
	})
	return w
}

func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

func (w *line) connack(t testing.TB, v5, present bool) {
	t.Helper()
	frame := []byte{wire.Connack << 4, 2, 0, 0}
	if v5 {
		frame = []byte{wire.Connack << 4, 3, 0, 0, 0}
	}
	if present {
		frame[2] = 1
	}
	w.send(t, frame)
	if got := w.nextControl(t); !bytes.Equal(got, frame) {
		t.Fatalf("the control plane got % x, not the CONNACK % x", got, frame)
	}
}

func (w *line) send(t testing.TB, p []byte) {
	t.Helper()
	if _, err := w.broker.Write(p); err != nil {
		t.Fatal(err)
	}
}

func (w *line) nextControl(t testing.TB) []byte {
	t.Helper()
	select {
	case p := <-w.control:
		return p
	case err := <-w.ended:
		w.ended <- err
		t.Fatalf("connection ended: %v", err)
	case <-time.After(patience):
		t.Fatal("nothing for the control plane")
	}
	return nil
}

// expect reads exactly what the client is to send.
func (w *line) expect(t testing.TB, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	_ = w.broker.SetReadDeadline(time.Now().Add(patience))
	if n, err := readFull(w.broker, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("client sent % x (%v), want % x", got[:n], err, want)
	}
}

func readFull(c net.Conn, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = c.Read(p[n:])
		n += k
	}
	return n, err
}

// end waits for the connection's end and returns why.
func (w *line) end(t testing.TB) error {
	t.Helper()
	select {
	case err := <-w.ended:
		w.ended <- err
		return err
	case <-time.After(patience):
		t.Fatal("the connection does not end")
	}
	return nil
}

// publishFrame builds a PUBLISH; props are encoded properties, nil for none.
func publishFrame(v5 bool, flags byte, id uint16, topic string, props, payload []byte) []byte {
	m := wire.Message[string]{Flags: flags, Topic: topic, ID: id, Props: props, Payload: payload}
	return m.Append(nil, v5)
}

func puback(ids ...uint16) (p []byte) {
	for _, id := range ids {
		p = wire.AppendAck(p, wire.Puback, id)
	}
	return p
}

// window is how many bytes of a session are handed to the log at most and not
// stored, but for one batch.
const window = 8 << 20
