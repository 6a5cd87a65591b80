package prove

import (
	"encoding/binary"
	"sync"

	"github.com/mqttetl/mqttetl/internal/wire"
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
		first, size, remaining, err := wire.FixedHeader(rest)
		if err != nil || size == 0 || len(rest) < size+remaining {
			break
		}
		t.packet(l, d, first, rest[size:size+remaining])
		rest = rest[size+remaining:]
	}
	l.rest[d] = append([]byte(nil), rest...)
}

// packet notes one packet.
func (t *tap) packet(l *tappedLine, d servers.Direction, first byte, body []byte) {
	kind := first >> 4
	switch {
	case d == servers.Down && kind == wire.Publish && first>>1&3 > 0:
		h, _, err := wire.PublishHead(first, len(body), body, wire.Limits{V5: true})
		if err != nil {
			return // the client will say so
		}
		id, payload := h.ID, string(body[h.Size:])
		l.given[id] = payload
		if first>>1&3 == 2 {
			t.sent[id] = payload
			t.again[payload] = t.again[payload] || t.released[payload]
		}
	case d == servers.Down && kind == wire.Pubrel:
		t.released[t.sent[binary.BigEndian.Uint16(body)]] = true
	case d == servers.Up && (kind == wire.Puback || kind == wire.Pubrec):
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
