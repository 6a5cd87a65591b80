package door

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// A raw connection sends and reads bytes.
type raw struct {
	net.Conn
	t *testing.T
}

func rawConn(t *testing.T, d *Door) raw { return raw{dial(t, d), t} }

func (r raw) send(packets ...[]byte) {
	r.t.Helper()
	if _, err := r.Write(bytes.Join(packets, nil)); err != nil {
		r.t.Fatal(err)
	}
}

// read reads n bytes as hexadecimal digits.
func (r raw) read(n int) string {
	r.t.Helper()
	p := make([]byte, n)
	_ = r.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadFull(r, p)
	if err != nil {
		r.t.Fatalf("read %x of %d bytes: %v", p[:got], n, err)
	}
	return hex.EncodeToString(p)
}

// rest reads until the door closes.
func (r raw) rest() string {
	r.t.Helper()
	_ = r.SetReadDeadline(time.Now().Add(patience))
	p, err := io.ReadAll(r)
	if err != nil && strings.Contains(err.Error(), "timeout") {
		r.t.Fatalf("the door does not close; it sent %x", p)
	}
	return hex.EncodeToString(p)
}

func login(version byte, id string, change ...func(*wire.Login)) []byte {
	l := wire.Login{Version: version, ClientID: id, CleanStart: true}
	for _, f := range change {
		f(&l)
	}
	return l.Append(nil)
}

func message(flags byte, topic string, id uint16, v5 bool, payload string, props ...byte) []byte {
	m := wire.Message[string]{Flags: flags, Topic: topic, ID: id, Payload: []byte(payload), Props: props}
	return m.Append(nil, v5)
}

func ack(kind byte, id uint16) []byte { return wire.AppendAck(nil, kind, id) }

const (
	v311 = wire.Version311
	v5   = wire.Version5
)

// connected makes a connection whose CONNACK has been read, and says whether a session was present.
func connected(t *testing.T, d *Door, packet []byte) (r raw, present bool) {
	t.Helper()
	r = rawConn(t, d)
	r.send(packet)
	head := r.read(4)
	if !strings.HasPrefix(head, "20") || head[6:8] != "00" {
		t.Fatalf("CONNACK %s", head)
	}
	size := 0
	for _, c := range []byte{head[2], head[3]} {
		size = size<<4 | strings.IndexByte("0123456789abcdef", c)
	}
	r.read(size - 2)
	return r, head[4:6] == "01"
}

// TestRefusals: what is wrong gets its code, or a closed connection, and no record.
func TestRefusals(t *testing.T) {
	log := newFakeLog()
	d := open(t, log, Config{MaxPacket: 40_000})
	long := strings.Repeat("x", 50_000)
	c311, c5 := login(v311, "a"), login(v5, "a")
	for _, c := range []struct {
		name string
		send [][]byte
		want string // what comes before the connection is closed; of packets after CONNECT only what follows CONNACK
	}{
		{"no MQTT", [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, ""},
		{"TLS", [][]byte{{0x16, 3, 1}}, ""},
		{"PUBLISH first", [][]byte{message(0, "a", 0, false, "")}, ""},
		{"version 6", [][]byte{{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 6, 2, 0, 0, 0, 1, 'a'}}, "20020001"},
		{"other protocol", [][]byte{{0x10, 13, 0, 4, 'M', 'Q', 'T', 'X', 4, 2, 0, 0, 0, 1, 'a'}}, "20020001"},
		{"reserved flag", [][]byte{{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 3, 0, 0, 0, 1, 'a'}}, ""},
		{"reserved flag 5", [][]byte{{0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 3, 0, 0, 0, 0, 1, 'a'}}, "2003008100"},
		{"empty id, 3.1.1, session", [][]byte{login(v311, "", func(l *wire.Login) { l.CleanStart = false })}, "20020002"},
		{"long id", [][]byte{login(v5, strings.Repeat("i", longestID+1))}, "2003008500"},
		{"long id, 3.1.1", [][]byte{login(v311, strings.Repeat("i", longestID+1))}, "20020002"},
		{"empty id, 3.1", [][]byte{login(wire.Version31, "")}, "20020002"},
		{"will with wildcard 5", [][]byte{login(v5, "a", func(l *wire.Login) { l.Will = &wire.WillMessage{Topic: "a/#"} })}, "2003009000"},
		{"will to $SYS, which is no will", [][]byte{login(v311, "a", func(l *wire.Login) { l.Will = &wire.WillMessage{Topic: "$SYS/a"} }), c311}, ""},
		{"authentication method", [][]byte{login(v5, "a", func(l *wire.Login) { l.Props = wire.Properties{0x15, 0, 1, 'x'} })}, "2003008c00"},
		{"second CONNECT", [][]byte{c311, c311}, ""},
		{"second CONNECT 5", [][]byte{c5, c5}, "e00182"},
		{"CONNACK from a client 5", [][]byte{c5, {0x20, 2, 0, 0}}, "e00181"},
		{"AUTH 5", [][]byte{c5, {0xf0, 0}}, "e00182"},
		{"type 0", [][]byte{c5, {0, 0}}, "e00181"},
		{"QoS 3", [][]byte{c5, message(6, "a", 1, true, "")}, "e00181"},
		{"DUP of QoS 0", [][]byte{c5, message(8, "a", 0, true, "")}, "e00181"},
		{"packet id 0", [][]byte{c5, message(2, "a", 0, true, "")}, "e00181"},
		{"wildcard in a topic", [][]byte{c5, message(2, "a/#", 1, true, "")}, "e00190"},
		{"wildcard in a topic, 3.1.1", [][]byte{c311, message(2, "a/+", 1, false, "")}, ""},
		{"empty topic", [][]byte{c5, message(2, "", 1, true, "")}, "e00190"},
		{"topic is not UTF-8", [][]byte{c5, message(2, "a\xff", 1, true, "")}, "e00181"},
		{"alias 0", [][]byte{c5, message(2, "a", 1, true, "", 0x23, 0, 0)}, "e00194"},
		{"alias beyond the maximum", [][]byte{c5, message(2, "a", 1, true, "", 0x23, 0, mostAliases+1)}, "e00194"},
		{"unknown alias", [][]byte{c5, message(2, "", 1, true, "", 0x23, 0, 1)}, "e00182"},
		{"subscription identifier", [][]byte{c5, message(2, "a", 1, true, "", 0x0b, 1)}, "e00182"},
		{"too large", [][]byte{c5, message(2, "a", 1, true, long)}, "e00195"},
		{"too large, 3.1.1", [][]byte{c311, message(2, "a", 1, false, long)}, ""},
		{"remaining length of five bytes", [][]byte{c5, {0x30, 0xff, 0xff, 0xff, 0xff, 1}}, "e00181"},
		{"PUBACK of nothing", [][]byte{c5, ack(wire.Puback, 1)}, "e00182"},
		{"PUBREL flags", [][]byte{c5, {0x60, 2, 0, 1}}, "e00181"},
		{"SUBSCRIBE flags", [][]byte{c5, {0x80, 6, 0, 1, 0, 0, 1, 'a'}}, "e00181"},
		{"SUBSCRIBE of nothing", [][]byte{c5, {0x82, 3, 0, 1, 0}}, "e00182"},
		{"PINGREQ with a body", [][]byte{c5, {0xc0, 1, 0}}, "e00181"},
		{"DISCONNECT that extends the session", [][]byte{c5, {0xe0, 7, 0, 5, 0x11, 0, 0, 0, 1}}, "e00182"},
		{"long control packet", [][]byte{c5, {0x82, 0xff, 0xff, 0xff, 0x7f}}, "e00181"},
	} {
		r := rawConn(t, d)
		r.send(c.send...)
		got := r.rest()
		if len(c.send) > 1 {
			if !strings.HasPrefix(got, "20") {
				t.Errorf("%s: %s, want a CONNACK first", c.name, got)
				continue
			}
			size := 2 + strings.IndexByte("0123456789abcdef", got[2])<<4 + strings.IndexByte("0123456789abcdef", got[3])
			got = got[2*size:]
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := log.texts(); len(got) > 0 {
		t.Errorf("recorded: %q", got)
	}
}

// TestConnections: clients keep their places, and of those that have not logged in the oldest gives way.
func TestConnections(t *testing.T) {
	d := open(t, newFakeLog(), Config{MaxConnections: 2})
	a, _ := connected(t, d, login(v311, "a"))
	silent := rawConn(t, d)
	silent.send([]byte{0x10})
	await(t, "two connections", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.conns) == 2 })
	connected(t, d, login(v311, "c"))
	if got := silent.rest(); got != "" {
		t.Errorf("who says nothing gets %s", got)
	}
	if got := rawConn(t, d).rest(); got != "" {
		t.Errorf("a third client gets %s", got)
	}
	a.send([]byte{0xc0, 0})
	if got := a.read(2); got != "d000" {
		t.Errorf("PINGREQ gets %s", got)
	}
}
