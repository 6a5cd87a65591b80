package prove

import (
	"encoding/binary"
	"sync"

	"github.com/mqttetl/mqttetl/test/servers"
)

// tap reads MQTT 5 as it passes a proxy and keeps which payloads the client has
// acknowledged: a witness that asks neither the client nor the broker.
type tap struct {
	mu    sync.Mutex
	lines map[int]*tappedLine
	acked map[string]bool // by payload

	// of the session, QoS 2
	sent     map[uint16]string // packet id → payload of the last PUBLISH with it
	released map[string]bool   // payloads whose PUBREL the broker has sent
	again    map[string]bool   // payloads that it has published after that
}

// tappedLine is one connection.
type tappedLine struct {
	rest  [2][]byte         // by direction, the beginning of a packet whose end has not come
	given map[uint16]string // packet id → payload, not yet acknowledged
}

// first bytes of packets, without their flags (MQTT 5 §2.1.2)
const (
	publishPacket = 3
	pubackPacket  = 4
	pubrecPacket  = 5
	pubrelPacket  = 6
)

func newTap() *tap {
	return &tap{lines: map[int]*tappedLine{}, acked: map[string]bool{},
		sent: map[uint16]string{}, released: map[string]bool{}, again: map[string]bool{}}
}

// piece is for Proxy.SetTap.
func (t *tap) piece(connection int, d servers.Direction, p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[connection]
	if l == nil {
		l = &tappedLine{given: map[uint16]string{}}
		t.lines[connection] = l
	}
	rest := append(l.rest[d], p...)
	for {
		size, n := binary.Uvarint(rest[min(1, len(rest)):]) // MQTT's variable byte integer is LEB128
		if n <= 0 || len(rest) < 1+n+int(size) {
			break
		}
		t.packet(l, d, rest[0], rest[1+n:1+n+int(size)])
		rest = rest[1+n+int(size):]
	}
	l.rest[d] = append([]byte(nil), rest...)
}

// packet notes one packet.
func (t *tap) packet(l *tappedLine, d servers.Direction, first byte, body []byte) {
	kind := first >> 4
	switch {
	case d == servers.Down && kind == publishPacket && first>>1&3 > 0:
		topic := int(binary.BigEndian.Uint16(body))
		id := binary.BigEndian.Uint16(body[2+topic:])
		rest := body[4+topic:]
		properties, n := binary.Uvarint(rest)
		payload := string(rest[n+int(properties):])
		l.given[id] = payload
		if first>>1&3 == 2 {
			t.sent[id] = payload
			t.again[payload] = t.again[payload] || t.released[payload]
		}
	case d == servers.Down && kind == pubrelPacket:
		t.released[t.sent[binary.BigEndian.Uint16(body)]] = true
	case d == servers.Up && (kind == pubackPacket || kind == pubrecPacket):
		if refused := len(body) > 2 && body[2] >= 0x80; refused {
			return
		}
		id := binary.BigEndian.Uint16(body)
		if payload, ok := l.given[id]; ok {
			t.acked[payload] = true
			delete(l.given, id)
		}
	}
}

// acknowledged are the payloads whose acknowledgement has passed.
func (t *tap) acknowledged() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]string, 0, len(t.acked))
	for p := range t.acked {
		all = append(all, p)
	}
	return all
}

// count is the number of payloads acknowledged so far.
func (t *tap) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.acked)
}

// publishedAgain says whether the broker has sent a QoS 2 PUBLISH of payload after
// its PUBREL, against MQTT 5 §4.3.3. It cannot be told from a new message.
func (t *tap) publishedAgain(payload string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.again[payload]
}
