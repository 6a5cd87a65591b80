package client

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

var accept5 = []byte{wire.Connack << 4, 3, 0, 0, 0}

// TestBrokenBroker: what a broker must not send ends the connection, with a
// DISCONNECT that says why where MQTT 5 has one, and nothing of it is delivered.
func TestBrokenBroker(t *testing.T) {
	for name, c := range map[string]struct {
		version byte
		sent    string
		code    byte
	}{
		"QoS 3":                {Version311, "\x36\x05\x00\x01t\x00\x01", wire.CodeMalformed},
		"packet id 0":          {Version311, "\x32\x05\x00\x01t\x00\x00", wire.CodeMalformed},
		"no topic":             {Version5, "\x30\x03\x00\x00\x00", wire.CodeTopicName},
		"alias":                {Version5, "\x30\x07\x00\x01t\x03\x23\x00\x01", wire.CodeTopicAlias},
		"wildcard":             {Version5, "\x30\x04\x00\x01#\x00", wire.CodeTopicName},
		"second CONNACK":       {Version5, "\x20\x03\x00\x00\x00", wire.CodeProtocol},
		"PINGREQ":              {Version5, "\xc0\x00", wire.CodeMalformed},
		"long PINGRESP":        {Version311, "\xd0\x01\x00", wire.CodeMalformed},
		"endless length":       {Version5, "\x30\xff\xff\xff\xff\x01", wire.CodeMalformed},
		"PUBREC for QoS 1":     {Version5, "\x50\x02\x00\x01", wire.CodeProtocol},
		"PUBCOMP for QoS 1":    {Version311, "\x70\x02\x00\x01", wire.CodeProtocol},
		"PUBACK for QoS 2":     {Version5, "\x40\x02\x00\x02", wire.CodeProtocol},
		"PUBCOMP for a PUBREC": {Version5, "\x70\x02\x00\x02", wire.CodeProtocol},
		"PUBACK for a PUBCOMP": {Version5, "\x50\x02\x00\x02\x40\x02\x00\x02", wire.CodeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			connack := accept311
			if c.version == Version5 {
				connack = accept5
			}
			delivered := 0
			client, f, err := dialFake(t, Options{Version: c.version, CleanStart: true, Receive: func(*Received) error { delivered++; return nil }}, connack)
			if err != nil {
				t.Fatal(err)
			}
			for _, qos := range []byte{1, 2} {
				if _, err := client.Publish(&Message{Topic: "t", QoS: qos}); err != nil {
					t.Fatal(err)
				}
			}
			client.Flush()
			f.packet()
			f.packet()
			f.send([]byte("\x30\x04\x00\x01t\x00")) // a good one
			f.send([]byte(c.sent))
			var last []byte
			for {
				kind, body := f.packet()
				if kind == 0 {
					break
				}
				if last = nil; kind == wire.Disconnect {
					last = body
				}
			}
			f.conn.Close()
			<-client.Done()
			var fault *wire.Error
			if err := client.Err(); !errors.As(err, &fault) || fault.Code != c.code || delivered != 1 {
				t.Errorf("%v, want 0x%02x; %d delivered", err, c.code, delivered)
			}
			if c.version == Version5 && (len(last) != 1 || last[0] != c.code) {
				t.Errorf("DISCONNECT % x, want %02x", last, c.code)
			}
		})
	}
}

// TestReceiveMaximum0 is a protocol error (MQTT 5 §3.2.2.3.3): nothing could
// ever be published.
func TestReceiveMaximum0(t *testing.T) {
	_, _, err := dialFake(t, Options{Version: Version5, CleanStart: true}, []byte{wire.Connack << 4, 6, 0, 0, 3, wire.ReceiveMaximum, 0, 0})
	if fault := (*wire.Error)(nil); !errors.As(err, &fault) || fault.Code != wire.CodeProtocol {
		t.Errorf("%v", err)
	}
}

// TestTopicAlias: an alias that was allowed stands for its topic, and another one
// for none.
func TestTopicAlias(t *testing.T) {
	o := Options{Version: Version5, CleanStart: true}
	if err := o.Properties.Set(wire.ForConnect, "topic-alias-maximum", "2"); err != nil {
		t.Fatal(err)
	}
	topics := make(chan string, 10)
	o.Receive = func(m *Received) error { topics <- string(m.Topic); return nil }
	client, f, err := dialFake(t, o, accept5)
	if err != nil {
		t.Fatal(err)
	}
	f.send([]byte("\x30\x07\x00\x01t\x03\x23\x00\x01" + "\x30\x06\x00\x00\x03\x23\x00\x01" + "\x30\x06\x00\x00\x03\x23\x00\x02"))
	if first, second := <-topics, <-topics; first != "t" || second != "t" {
		t.Errorf("%q %q", first, second)
	}
	if kind, body := f.packet(); kind != wire.Disconnect || body[0] != wire.CodeProtocol {
		t.Errorf("type %d, % x", kind, body)
	}
	f.conn.Close()
	<-client.Done()
}

// TestPubrecOfNobody: the broker waits for a PUBREL also of what an earlier
// connection has published.
func TestPubrecOfNobody(t *testing.T) {
	_, f, err := dialFake(t, Options{Version: Version311}, accept311)
	if err != nil {
		t.Fatal(err)
	}
	f.send([]byte{wire.Pubrec << 4, 2, 0, 7})
	if kind, body := f.packet(); kind != wire.Pubrel || body[1] != 7 {
		t.Errorf("type %d, % x", kind, body)
	}
}

// TestDisconnectEndsAtOnce although the broker keeps the connection open.
func TestDisconnectEndsAtOnce(t *testing.T) {
	for _, version := range []byte{Version311, Version5} {
		connack := accept311
		if version == Version5 {
			connack = accept5
		}
		client, f, err := dialFake(t, Options{Version: version, CleanStart: true}, connack)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		client.Disconnect(0)
		if took := time.Since(began); took > time.Second {
			t.Errorf("MQTT %d: %v", version, took)
		}
		if kind, _ := f.packet(); kind != wire.Disconnect {
			t.Errorf("type %d, want DISCONNECT", kind)
		}
		if kind, _ := f.packet(); kind != 0 {
			t.Errorf("type %d after DISCONNECT", kind)
		}
	}
}

// TestLastAcknowledgementArrives although the broker goes on sending: what it
// sends is taken from the network, so that TCP does not reset the connection.
func TestLastAcknowledgementArrives(t *testing.T) {
	client, f, err := dialFake(t, Options{Version: Version311, CleanStart: true, Receive: func(*Received) error { return ErrStop }}, accept311)
	if err != nil {
		t.Fatal(err)
	}
	f.send([]byte{wire.Publish<<4 | 2, 5, 0, 1, 't', 0, 9})
	for range 3 {
		f.send(append([]byte{wire.Publish << 4, 0xff, 0x7f, 0, 1, 't'}, make([]byte, 16380)...))
	}
	for _, want := range []byte{wire.Puback, wire.Disconnect} {
		if kind, _ := f.packet(); kind != want {
			t.Errorf("type %d, want %d", kind, want)
		}
	}
	f.conn.Close()
	<-client.Done()
	if err := client.Drain(context.Background()); !errors.Is(err, ErrStop) {
		t.Error(err)
	}
}

// TestNothingAfterGoodbye: a broker that has queued messages sends the last one wanted before
// we subscribe. The request does not follow our DISCONNECT, and does not hide why we left.
func TestNothingAfterGoodbye(t *testing.T) {
	client, f, err := dialFake(t, Options{Version: Version311, Receive: func(*Received) error { return ErrStop }},
		append(slices.Clone(accept311), wire.Publish<<4|2, 5, 0, 1, 't', 0, 9))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []byte{wire.Puback, wire.Disconnect} {
		if kind, _ := f.packet(); kind != want {
			t.Fatalf("type %d, want %d", kind, want)
		}
	}
	asked := make(chan error, 1)
	go func() {
		_, err := client.Subscribe(context.Background(), []Filter{{Topic: "t", QoS: 1}}, nil)
		asked <- err
	}()
	if kind, _ := f.packet(); kind != 0 {
		t.Errorf("type %d after DISCONNECT", kind)
	}
	f.conn.Close()
	if err := <-asked; !errors.Is(err, ErrStop) {
		t.Errorf("got %v, want %v", err, ErrStop)
	}
}

// TestBounds: what a broker sends without end has one.
func TestBounds(t *testing.T) {
	connack := append([]byte{wire.Connack << 4, 0xff, 0xff, 0x7f}, make([]byte, 64)...)
	if _, _, err := dialFake(t, Options{Version: Version5}, connack); !errors.Is(err, errNotMQTT) {
		t.Errorf("a CONNACK of 2 MiB: got %v, want %v", err, errNotMQTT)
	}
	small := Properties{wire.MaximumPacketSize, 0, 0, 4, 0}
	many := Properties{wire.TopicAliasMaximum, 0xff, 0xff}
	var aliases []byte
	for i := range 80 {
		topic := append([]byte{0xff, 0xff}, bytes.Repeat([]byte{'t'}, 65535)...)
		body := append(topic, 3, wire.TopicAlias, 0, byte(i+1))
		aliases = append(aliases, wire.AppendPacket(nil, wire.Publish<<4, body)...)
	}
	for name, c := range map[string]struct {
		o    Options
		sent []byte
		code byte
	}{
		"SUBACK":        {Options{}, []byte{wire.Suback << 4, 0xff, 0xff, 0x7f}, wire.CodeMalformed},
		"large PUBLISH": {Options{Properties: small}, wire.AppendPacket(nil, wire.Publish<<4, append([]byte{0, 1, 't', 0}, make([]byte, 2000)...)), wire.CodeTooLarge},
		"aliases":       {Options{Properties: many}, aliases, wire.CodeTopicAlias},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Version = Version5
			client, f, err := dialFake(t, c.o, accept5)
			if err != nil {
				t.Fatal(err)
			}
			f.send(c.sent)
			if kind, body := f.packet(); kind != wire.Disconnect || len(body) != 1 || body[0] != c.code {
				t.Errorf("the broker got %d % x, want a DISCONNECT 0x%02x", kind, body, c.code)
			}
			f.conn.Close()
			<-client.Done()
		})
	}
}

// TestBrokerThatReadsNothing: answers that a broker does not read are bounded,
// and end the connection.
func TestBrokerThatReadsNothing(t *testing.T) {
	for name, frame := range map[string][]byte{
		"PUBREL": {wire.Pubrel<<4 | 2, 2, 0, 1},
		"PUBREC": {wire.Pubrec << 4, 2, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, f, err := dialFake(t, Options{Version: Version5}, accept5)
			if err != nil {
				t.Fatal(err)
			}
			client.mu.Lock()
			client.unread = 200 * time.Millisecond
			client.mu.Unlock()
			frames := bytes.Repeat(frame, 16<<10)
			most := 0
			for sent := 0; sent < 64<<20; sent += len(frames) {
				if _, err := f.conn.Write(frames); err != nil {
					break
				}
				client.mu.Lock()
				most = max(most, len(client.out))
				client.mu.Unlock()
			}
			<-client.Done()
			if err := client.Err(); !errors.Is(err, errUnread) {
				t.Errorf("it ended with %v, want %v", err, errUnread)
			}
			if most > 3*outMost {
				t.Errorf("%d bytes of answers", most)
			}
		})
	}
}
