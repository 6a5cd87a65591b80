package embedded

import (
	"fmt"
	"strings"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Strangers counts what one subscriber is sent of other publishers than our own.
type Strangers struct {
	mqtt.HookBase
	subscriber, own string
	refused         atomic.Bool
	sent            [3]atomic.Uint64 // by QoS
}

// Strangers begins to count for the client id subscriber; our own publishers are
// those whose client ids begin with own.
func (m *Mochi) Strangers(subscriber, own string) (*Strangers, error) {
	s := &Strangers{subscriber: subscriber, own: own}
	if err := m.server.AddHook(s, nil); err != nil {
		return nil, fmt.Errorf("mochi: %w", err)
	}
	return s, nil
}

// Refuse has the broker drop what strangers publish from now on.
func (s *Strangers) Refuse() { s.refused.Store(true) }

// Sent is how many of their messages the subscriber was sent, and how many of
// these it must acknowledge.
func (s *Strangers) Sent() (all, acknowledged uint64) {
	acknowledged = s.sent[1].Load() + s.sent[2].Load()
	return s.sent[0].Load() + acknowledged, acknowledged
}

func (s *Strangers) stranger(id string) bool { return !strings.HasPrefix(id, s.own) }

// ID names the hook.
func (*Strangers) ID() string { return "strangers" }

// Provides says what the hook listens to.
func (*Strangers) Provides(b byte) bool { return b == mqtt.OnPublish || b == mqtt.OnPacketSent }

// OnPublish refuses a stranger's message once that is wanted.
func (s *Strangers) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if s.refused.Load() && s.stranger(cl.ID) {
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}

// OnPacketSent counts.
func (s *Strangers) OnPacketSent(cl *mqtt.Client, pk packets.Packet, _ []byte) {
	h := pk.FixedHeader
	if h.Type == packets.Publish && !h.Dup && cl.ID == s.subscriber && s.stranger(pk.Origin) {
		s.sent[min(h.Qos, 2)].Add(1)
	}
}
