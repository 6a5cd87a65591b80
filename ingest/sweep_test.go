package ingest

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// scripted is a broker that answers each packet of a client with given bytes.
type scripted struct {
	connack   []byte
	subscribe func(id []byte) []byte // answer to a SUBSCRIBE; nil: it is granted
	after     []byte                 // follows the first answer to a SUBSCRIBE
	hangUp    bool                   // closes the connection after that
}

func (b scripted) start(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String()
}

func (b scripted) serve(c net.Conn) {
	defer c.Close()
	buf, v5, after := make([]byte, 0, 4096), false, b.after
	for {
		first, size, remaining, _ := wire.FixedHeader(buf)
		if size == 0 || len(buf) < size+remaining {
			n, err := c.Read(buf[len(buf):cap(buf)])
			if err != nil {
				return
			}
			buf = buf[:len(buf)+n]
			continue
		}
		body := buf[size : size+remaining]
		switch first >> 4 {
		case wire.Connect:
			v5 = body[6] == 5
			_, _ = c.Write(b.connack)
		case wire.Subscribe:
			answer := []byte{wire.Suback << 4, 3, body[0], body[1], 1}
			if v5 {
				answer = []byte{wire.Suback << 4, 4, body[0], body[1], 0, 1}
			}
			if b.subscribe != nil {
				answer = b.subscribe(body[:2])
			}
			_, _ = c.Write(append(answer, after...))
			if after = nil; b.hangUp {
				return
			}
		case wire.Pingreq:
			_, _ = c.Write(pingresp)
		case wire.Disconnect:
			return
		}
		buf = buf[:copy(buf[:cap(buf)], buf[size+remaining:])]
	}
}

// accepted is a CONNACK of MQTT 5 with properties.
func accepted(props ...byte) []byte {
	return append([]byte{wire.Connack << 4, byte(3 + len(props)), 0, 0, byte(len(props))}, props...)
}

var accepted311 = []byte{wire.Connack << 4, 2, 0, 0}

// TestBrokersThatLimitUs: what a broker allows less of, or sends that nobody asked
// for, costs no message and no connection.
func TestBrokersThatLimitUs(t *testing.T) {
	message := func(v5 bool) []byte { return publishFrame(v5, 2, 7, "a", nil, []byte("m")) }
	suback := func(before []byte, more ...byte) func(id []byte) []byte {
		return func(id []byte) []byte {
			return append(append([]byte(nil), before...), append([]byte{wire.Suback << 4, byte(2 + len(more)), id[0], id[1]}, more...)...)
		}
	}
	for name, c := range map[string]struct {
		version string
		broker  scripted
		says    string
	}{
		"maximum QoS 0":         {"5", scripted{connack: accepted(0x24, 0), subscribe: suback(nil, 0, 0)}, "granted less than asked"},
		"no wildcards":          {"5", scripted{connack: accepted(0x28, 0)}, ""},
		"no shared":             {"5", scripted{connack: accepted(0x2a, 0)}, ""},
		"no retain":             {"5", scripted{connack: accepted(0x25, 0)}, ""},
		"no identifiers":        {"5", scripted{connack: accepted(0x29, 0)}, ""},
		"server keepalive":      {"5", scripted{connack: accepted(0x13, 0, 1)}, ""},
		"assigned id":           {"5", scripted{connack: accepted(0x12, 0, 3, 'x', 'y', 'z')}, ""},
		"receive maximum 1":     {"5", scripted{connack: accepted(0x21, 0, 1)}, ""},
		"maximum packet size":   {"5", scripted{connack: accepted(0x27, 0, 0, 0, 64)}, ""},
		"alias maximum":         {"5", scripted{connack: accepted(0x22, 0xff, 0xff)}, ""},
		"expiry of a minute":    {"5", scripted{connack: accepted(0x11, 0, 0, 0, 60)}, "limit=1m0s"},
		"no session":            {"5", scripted{connack: accepted(0x11, 0, 0, 0, 0)}, "limit=0s"},
		"PUBLISH before SUBACK": {"5", scripted{connack: accepted(), subscribe: suback(publishFrame(true, 2, 9, "b", nil, []byte("early")), 0, 1)}, ""},
		"unasked PINGRESP":      {"5", scripted{connack: accepted(), after: pingresp}, ""},
		"unasked PUBREL":        {"5", scripted{connack: accepted(), after: []byte{wire.Pubrel<<4 | 2, 2, 0, 5}}, ""},
		"unasked UNSUBACK":      {"5", scripted{connack: accepted(), after: []byte{wire.Unsuback << 4, 4, 0, 9, 0, 0}}, ""},
		"unasked SUBACK":        {"5", scripted{connack: accepted(), after: []byte{wire.Suback << 4, 4, 0, 99, 0, 0}}, ""},
		"3.1.1 QoS 0":           {"3.1.1", scripted{connack: accepted311, subscribe: suback(nil, 0)}, "granted less than asked"},
		"3.1.1 early PUBLISH":   {"3.1.1", scripted{connack: accepted311, subscribe: suback(publishFrame(false, 2, 9, "b", nil, []byte("early")), 1)}, ""},
		"3.1.1 PINGRESP":        {"3.1.1", scripted{connack: accepted311, after: pingresp}, ""},
		"3.1.1 PUBREL":          {"3.1.1", scripted{connack: accepted311, after: []byte{wire.Pubrel<<4 | 2, 2, 0, 5}}, ""},
		"3.1.1 unasked SUBACK":  {"3.1.1", scripted{connack: accepted311, after: []byte{wire.Suback << 4, 3, 0, 99, 0}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines, log := &logLines{}, newFakeLog(t)
			c.broker.after = append(c.broker.after, message(c.version == "5")...)
			s := newSource(t, Config{URL: "mqtt://" + c.broker.start(t), Version: c.version, ClientID: "c", Subscribe: []string{"a"}, QoS: 1,
				Logger: lines.logger()}, log)
			start(t, s)
			subscribed(t, s)
			eventually(t, "the message", func() bool {
				return slices.ContainsFunc(log.all(), func(r mqttetl.Record) bool { return string(r.Payload) == "m" })
			})
			eventually(t, "its PUBACK", func() bool { return s.Stats().Acknowledged == s.Stats().Received })
			if st := s.Stats(); st.Reconnects != 0 || st.Error != "" || lines.count("level=ERROR") != 0 || lines.count(c.says) == 0 {
				t.Errorf("stats %+v, want a line with %q\n%s", st, c.says, lines)
			}
			if strings.Contains(name, "early") || strings.Contains(name, "before") {
				if r := log.all(); string(r[0].Payload) != "early" {
					t.Errorf("records %v", r)
				}
			}
		})
	}
}

// TestBrokersThatEndIt: a broker that ends connection after connection is told of
// once with what helps, and tried ever more slowly.
func TestBrokersThatEndIt(t *testing.T) {
	disconnect := func(code byte, props ...byte) []byte {
		return append([]byte{wire.Disconnect << 4, byte(2 + len(props)), code, byte(len(props))}, props...)
	}
	refused := func(code byte) []byte { return []byte{wire.Connack << 4, 3, 0, code, 0} }
	refused311 := func(code byte) []byte { return []byte{wire.Connack << 4, 2, 0, code} }
	instead := append([]byte{0x1c, 0, 9}, "other:188"...)
	for name, c := range map[string]struct {
		version    string
		broker     scripted
		says, hint string
		slowly     bool
	}{
		"shared":          {"5", scripted{connack: accepted(), after: disconnect(0x9e), hangUp: true}, "shared subscriptions not supported (0x9e)", "set share to", true},
		"wildcards":       {"5", scripted{connack: accepted(), after: disconnect(0xa2), hangUp: true}, "wildcard subscriptions not supported", "without + and #", true},
		"not allowed":     {"5", scripted{connack: accepted(), after: disconnect(0x87), hangUp: true}, "not authorized (0x87)", "access rules", true},
		"moved":           {"5", scripted{connack: accepted(), after: disconnect(0x9d, instead...), hangUp: true}, "server moved (0x9d), use other:188", "set url", true},
		"another server":  {"5", scripted{connack: append([]byte{wire.Connack << 4, 15, 0, 0x9c, 12}, instead...)}, "use another server (0x9c), use other:188", "set url", true},
		"administrator":   {"5", scripted{connack: accepted(), after: disconnect(0x98), hangUp: true}, "administrative action", "on purpose", true},
		"quota":           {"5", scripted{connack: refused(0x97)}, "quota exceeded", "quota", true},
		"busy":            {"5", scripted{connack: refused(0x89)}, "server busy", "", false},
		"id":              {"5", scripted{connack: refused(0x85)}, "client id not valid", "set another client_id", true},
		"shutting down":   {"5", scripted{connack: accepted(), after: disconnect(0x8b), hangUp: true}, "server shutting down", "", false},
		"closes":          {"5", scripted{connack: accepted(), subscribe: func([]byte) []byte { return nil }, hangUp: true}, "before it had granted a filter", "check their access rules", false},
		"3.1.1 closes":    {"3.1.1", scripted{connack: accepted311, subscribe: func([]byte) []byte { return nil }, hangUp: true}, "before it had granted a filter", "check their access rules", false},
		"PUBACK":          {"5", scripted{connack: accepted(), after: []byte{wire.Puback << 4, 2, 0, 1}}, "never published", "", false},
		"3.1.1 version":   {"3.1.1", scripted{connack: refused311(1)}, "unacceptable protocol version (0x01)", "set version", true},
		"3.1.1 id":        {"3.1.1", scripted{connack: refused311(2)}, "client id rejected (0x02)", "set another client_id", true},
		"3.1.1 busy":      {"3.1.1", scripted{connack: refused311(3)}, "server unavailable (0x03)", "", false},
		"3.1.1 password":  {"3.1.1", scripted{connack: refused311(4)}, "bad user name or password (0x04)", "username, password", true},
		"3.1.1 forbidden": {"3.1.1", scripted{connack: refused311(5)}, "not authorized (0x05)", "username, password", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := &logLines{}
			s := newSource(t, Config{URL: "mqtt://" + c.broker.start(t), Version: c.version, ClientID: "c", Subscribe: []string{"a/#"}, QoS: 1,
				Logger: lines.logger()}, newFakeLog(t))
			l := s.links[0]
			start(t, s)
			eventually(t, "several attempts", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.failures >= 6 })
			if lines.count(c.says) == 0 || lines.count(c.hint) == 0 || lines.count("level=ERROR")+lines.count("level=WARN") > 6 {
				t.Errorf("want %q with the hint %q; log says\n%s", c.says, c.hint, lines)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.slowly != c.slowly || l.trouble == "" {
				t.Errorf("slowly %v, want %v; trouble %q", l.slowly, c.slowly, l.trouble)
			}
		})
	}
}

// TestStrangeSuback: an answer that does not fit the SUBSCRIBE is not taken for a
// grant; it is said, and the filter is asked for again.
func TestStrangeSuback(t *testing.T) {
	for name, c := range map[string]struct {
		version string
		answer  func(id []byte) []byte
	}{
		"no wildcards":   {"5", nil},
		"none":           {"5", func([]byte) []byte { return nil }},
		"another id":     {"5", func(id []byte) []byte { return []byte{wire.Suback << 4, 4, id[0], id[1] + 100, 0, 1} }},
		"no code":        {"5", func(id []byte) []byte { return []byte{wire.Suback << 4, 3, id[0], id[1], 0} }},
		"two codes":      {"5", func(id []byte) []byte { return []byte{wire.Suback << 4, 5, id[0], id[1], 0, 1, 1} }},
		"UNSUBACK":       {"5", func(id []byte) []byte { return []byte{wire.Unsuback << 4, 4, id[0], id[1], 0, 0} }},
		"3.1.1 none":     {"3.1.1", func([]byte) []byte { return nil }},
		"3.1.1 id":       {"3.1.1", func(id []byte) []byte { return []byte{wire.Suback << 4, 3, id[0], id[1] + 100, 1} }},
		"3.1.1 UNSUBACK": {"3.1.1", func(id []byte) []byte { return []byte{wire.Unsuback << 4, 2, id[0], id[1]} }},
		"3.1.1 no code":  {"3.1.1", func(id []byte) []byte { return []byte{wire.Suback << 4, 2, id[0], id[1]} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := &logLines{}
			connack := accepted()
			switch {
			case c.version != "5":
				connack = accepted311
			case c.answer == nil:
				connack = accepted(0x28, 0)
			}
			s := newSource(t, Config{URL: "mqtt://" + scripted{connack: connack, subscribe: c.answer}.start(t), Version: c.version, ClientID: "c",
				Subscribe: []string{"a/#"}, QoS: 1, Logger: lines.logger()}, newFakeLog(t))
			s.links[0].pace.suback = 500 * time.Millisecond
			start(t, s)
			eventually(t, "it is said", func() bool {
				return lines.count("a subscription failed; will ask again")+lines.count("broken protocol") > 0
			})
			if st := s.Stats(); st.Subscribed || st.Error == "" {
				t.Errorf("stats %s, log says\n%s", fmt.Sprintf("%+v", st), lines)
			}
		})
	}
}
