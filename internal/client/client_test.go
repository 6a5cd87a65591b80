package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// fake is the broker's end of a connection.
type fake struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// dialFake connects a client to a broker that answers CONNECT with connack.
func dialFake(t *testing.T, o Options, connack []byte) (*Client, *fake, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, conn: <-accepted}
	f.in = bufio.NewReader(f.conn)
	_ = f.conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { f.conn.Close() })
	f.send(connack)
	c, err := Connect(context.Background(), conn, o)
	if err == nil {
		t.Cleanup(c.Close)
	}
	f.packet() // CONNECT
	return c, f, err
}

func (f *fake) send(p []byte) {
	f.t.Helper()
	if _, err := f.conn.Write(p); err != nil {
		f.t.Fatal(err)
	}
}

// packet reads one packet of the client's; type 0 is the end of the stream.
func (f *fake) packet() (kind byte, body []byte) {
	f.t.Helper()
	first, err := f.in.ReadByte()
	if err != nil {
		return 0, nil
	}
	size, shift := 0, 0
	for {
		b, err := f.in.ReadByte()
		if err != nil {
			f.t.Fatal(err)
		}
		size |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		shift += 7
	}
	body = make([]byte, size)
	if _, err := io.ReadFull(f.in, body); err != nil {
		f.t.Fatal(err)
	}
	return first >> 4, body
}

var accept311 = []byte{wire.Connack << 4, 2, 0, 0}

// TestWindow: no more than the window is unacknowledged, and the MQTT 5 broker's
// receive maximum makes it smaller.
func TestWindow(t *testing.T) {
	for name, c := range map[string]struct {
		version byte
		connack []byte
		want    int
	}{
		"ours":         {Version311, accept311, 7},
		"the broker's": {Version5, []byte{wire.Connack << 4, 6, 0, 0, 3, wire.ReceiveMaximum, 0, 3}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			answered, late := 0, 0
			published := make(chan error, 1)
			var drained atomic.Bool
			client, f, err := dialFake(t, Options{Version: c.version, Window: 7, CleanStart: true,
				Acknowledged: func(uint16, error) {
					answered++
					for range 1000 { // in which Drain must not return
						runtime.Gosched()
					}
					if drained.Load() {
						late++
					}
				}}, c.connack)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for range 20 {
					if _, err := client.Publish(&Message{Topic: "t", QoS: 1}); err != nil {
						published <- err
						return
					}
				}
				err := client.Drain(context.Background())
				drained.Store(true)
				published <- err
			}()
			var open [][]byte
			for got := 0; got < 20; got++ {
				kind, body := f.packet()
				if kind != wire.Publish {
					t.Fatalf("packet of type %d", kind)
				}
				open = append(open, body[3:5])
				if len(open) < c.want && got < 19 {
					continue
				}
				// Whatever else the client would send is on its way before this.
				if n := client.InFlight(); n > c.want {
					t.Fatalf("%d unacknowledged, the window is %d", n, c.want)
				}
				for _, id := range open {
					f.send([]byte{wire.Puback << 4, 2, id[0], id[1]})
				}
				open = nil
			}
			if err := <-published; err != nil || answered != 20 || late > 0 {
				t.Fatalf("%v, %d acknowledged, %d of them told too late", err, answered, late)
			}
		})
	}
}

// TestReceivedIsFlushedBeforeItIsAcknowledged, and a repeated QoS 2 message is
// delivered once.
func TestReceivedIsFlushedBeforeItIsAcknowledged(t *testing.T) {
	delivered, flushed := 0, make(chan int, 10)
	_, f, err := dialFake(t, Options{Version: Version311, CleanStart: true,
		Receive: func(*Received) error { delivered++; return nil },
		Flush:   func() error { flushed <- delivered; return nil },
	}, accept311)
	if err != nil {
		t.Fatal(err)
	}
	publish := []byte{wire.Publish<<4 | 4, 5, 0, 1, 't', 0, 9}
	f.send(publish)
	if kind, _ := f.packet(); kind != wire.Pubrec || <-flushed != 1 {
		t.Fatalf("type %d", kind)
	}
	publish[0] |= 8
	f.send(append(publish, wire.Pubrel<<4|2, 2, 0, 9))
	for _, want := range []byte{wire.Pubrec, wire.Pubcomp} {
		if kind, _ := f.packet(); kind != want {
			t.Fatalf("type %d, want %d", kind, want)
		}
	}
	f.send([]byte{wire.Publish<<4 | 4, 5, 0, 1, 't', 0, 9}) // the id is free again
	if kind, _ := f.packet(); kind != wire.Pubrec || <-flushed != 2 {
		t.Fatalf("type %d", kind)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		version byte
		connack []byte
		text    string
		login   bool
		later   bool
	}{
		"3.1.1 login":   {Version311, []byte{wire.Connack << 4, 2, 0, 4}, "bad user name or password (0x04)", true, false},
		"5 login":       {Version5, []byte{wire.Connack << 4, 8, 0, 0x86, 5, wire.ReasonString, 0, 2, 'n', 'o'}, "bad user name or password (0x86): no", true, false},
		"5 busy":        {Version5, []byte{wire.Connack << 4, 3, 0, 0x89, 0}, "server busy", false, true},
		"old broker":    {Version5, []byte{wire.Connack << 4, 2, 0, 1}, "unacceptable protocol version", false, false},
		"not MQTT":      {Version311, []byte("HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat(" ", 100)), "not a CONNACK (0x48)", false, true},
		"cut":           {Version5, []byte{wire.Connack << 4, 3, 0, 0, 9}, "malformed properties", false, false},
		"endless size":  {Version5, []byte{wire.Connack << 4, 0xff, 0xff, 0xff, 0xff, 1}, "not MQTT", false, true},
		"bad property":  {Version5, []byte{wire.Connack << 4, 5, 0, 0, 2, 0xfe, 0}, "unknown property", false, false},
		"short connack": {Version5, []byte{wire.Connack << 4, 1, 0}, "a CONNACK of 1 bytes", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := dialFake(t, Options{Version: c.version, CleanStart: true}, c.connack)
			var r *Refusal
			if err == nil || !strings.Contains(err.Error(), c.text) || errors.Is(err, mqttetl.ErrUnavailable) != c.later ||
				c.login != (errors.As(err, &r) && r.Login()) {
				t.Fatalf("%v, want %s", err, c.text)
			}
		})
	}
}

// TestLimitsOfTheBroker: what the broker said it would not take is not sent.
func TestLimitsOfTheBroker(t *testing.T) {
	connack := []byte{wire.Connack << 4, 12, 0, 0, 9, wire.MaximumQoS, 1, wire.RetainAvailable, 0, wire.MaximumPacketSize, 0, 0, 0, 20}
	c, _, err := dialFake(t, Options{Version: Version5, CleanStart: true}, connack)
	if err != nil {
		t.Fatal(err)
	}
	for text, m := range map[string]Message{
		"QoS 1 at most":       {Topic: "t", QoS: 2},
		"no retained":         {Topic: "t", Retain: true},
		"takes 20 at most":    {Topic: "t", Payload: make([]byte, 16)},
		"a packet of 21 byte": {Topic: "t", QoS: 1, Payload: make([]byte, 13)},
	} {
		if _, err := c.Publish(&m); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %s", err, text)
		}
	}
	if _, err := c.Publish(&Message{Topic: "t", QoS: 1, Payload: make([]byte, 12)}); err != nil {
		t.Error(err)
	}
}

func TestSilenceEndsTheConnection(t *testing.T) {
	c, f, err := dialFake(t, Options{Version: Version311, CleanStart: true, KeepAlive: 1}, accept311)
	if err != nil {
		t.Fatal(err)
	}
	if kind, _ := f.packet(); kind != wire.Pingreq {
		t.Fatalf("type %d, want PINGREQ", kind)
	}
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Fatal("a broker that is silent is waited for")
	}
	if err := c.Err(); !errors.Is(err, mqttetl.ErrUnavailable) || !strings.Contains(err.Error(), "PINGRESP") {
		t.Fatal(err)
	}
}

// FuzzClient: whatever a broker sends, the client ends by itself.
func FuzzClient(f *testing.F) {
	f.Add(true, []byte{wire.Publish<<4 | 2, 6, 0, 1, 't', 0, 9, 0})
	f.Add(true, []byte{wire.Publish << 4, 9, 0, 1, 't', 3, wire.TopicAlias, 0, 1, 'p', 'q'})
	f.Add(false, []byte{wire.Puback << 4, 2, 0, 1, wire.Suback << 4, 3, 0, 1, 0x80, wire.Pingresp << 4, 0})
	f.Add(true, []byte{wire.Disconnect << 4, 8, 0x8e, 6, wire.ReasonString, 0, 3, 'o', 'u', 't'})
	f.Add(true, []byte{wire.Pubrec << 4, 4, 0, 1, 0x97, 0, wire.Pubcomp << 4, 2, 0, 1})
	f.Fuzz(func(t *testing.T, v5 bool, stream []byte) {
		ours, theirs := net.Pipe()
		o := Options{Version: Version311, CleanStart: true, Receive: func(m *Received) error {
			for range m.Properties.All() {
			}
			return nil
		}}
		connack := accept311
		if v5 {
			o.Version = Version5
			connack = []byte{wire.Connack << 4, 3, 0, 0, 0}
		}
		go io.Copy(io.Discard, theirs)
		go func() {
			theirs.Write(append(connack[:len(connack):len(connack)], stream...))
			theirs.Close()
		}()
		c, err := Connect(context.Background(), ours, o)
		if err != nil {
			return
		}
		_, _ = c.Publish(&Message{Topic: "t", QoS: 1})
		c.Flush()
		select {
		case <-c.Done():
		case <-time.After(patience):
			t.Fatal("does not end")
		}
		c.Close()
	})
}
