package prove

import (
	"testing"

	"github.com/mqttetl/mqttetl/test/servers"
)

// TestTapPublishedAgain: only what the broker sends again behind its PUBREL is its fault.
func TestTapPublishedAgain(t *testing.T) {
	publish := func(id byte, payload string) []byte {
		return append([]byte{0x34, byte(6 + len(payload)), 0, 1, 't', 0, id, 0}, payload...)
	}
	p := newTap()
	p.piece(1, servers.Down, publish(1, "a"))
	p.piece(1, servers.Down, publish(2, "b"))
	p.piece(1, servers.Up, []byte{0x50, 2, 0, 1})
	p.piece(1, servers.Down, []byte{0x62, 2, 0, 1}) // PUBREL of a
	p.piece(2, servers.Down, publish(1, "a"))
	p.piece(2, servers.Down, publish(2, "b"))
	if !p.publishedAgain("a") || p.publishedAgain("b") {
		t.Errorf("a %v, b %v; want true, false", p.publishedAgain("a"), p.publishedAgain("b"))
	}
	if n := p.count(); n != 1 {
		t.Errorf("%d acknowledged, want 1", n)
	}
}
