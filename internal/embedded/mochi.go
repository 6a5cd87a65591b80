package embedded

import (
	"fmt"
	"log/slog"
	"math"
	"net"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Mochi is an MQTT broker within the process, for MQTT 3.1.1 and 5, open to
// everyone on the machine. It keeps sessions in memory only and may drop a
// message of a slow subscriber: no claim may rest on it.
type Mochi struct {
	Addr string // host:port
	URL  string // mqtt://host:port

	WebSocketURL string // ws://host:port/mqtt; empty: none

	server *mqtt.Server
}

// StartMochi starts a broker on a free port of the loopback interface, and if
// webSocket is not empty on that host:port too, for MQTT over WebSocket.
func StartMochi(webSocket string) (*Mochi, error) {
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumClientWritesPending = 1 << 16
	capabilities.MaximumInflight = math.MaxUint16
	capabilities.ReceiveMaximum = math.MaxUint16
	server := mqtt.New(&mqtt.Options{Capabilities: capabilities, Logger: slog.New(slog.DiscardHandler)})
	for _, hook := range []mqtt.Hook{new(everyone), new(noQuota)} {
		if err := server.AddHook(hook, nil); err != nil {
			return nil, fmt.Errorf("start mochi: %w", err)
		}
	}
	listener := guarded{listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})}
	if err := server.AddListener(listener); err != nil {
		return nil, fmt.Errorf("start mochi: %w", err)
	}
	m := &Mochi{server: server}
	if webSocket != "" {
		if err := server.AddListener(guarded{listeners.NewWebsocket(listeners.Config{ID: "ws", Address: webSocket})}); err != nil {
			return nil, fmt.Errorf("start mochi: %w", err)
		}
		m.WebSocketURL = "ws://" + webSocket + "/mqtt"
	}
	if err := server.Serve(); err != nil {
		return nil, fmt.Errorf("start mochi: %w", err)
	}
	m.Addr = listener.Address()
	m.URL = "mqtt://" + m.Addr
	return m, nil
}

// Counted is how many PUBLISH packets the broker has received, sent, and dropped
// because a subscriber was slow.
func (m *Mochi) Counted() (received, sent, dropped int64) {
	info := m.server.Info.Clone()
	return info.MessagesReceived, info.MessagesSent, info.MessagesDropped
}

// Close ends all connections and the broker.
func (m *Mochi) Close() error { return m.server.Close() }

// guarded is a listener on which a packet that makes mochi panic ends its own
// connection and nothing else: mochi 2.7.9 reads beyond a SUBSCRIBE without its
// options byte. mochi holds no lock without a deferred Unlock, and puts a client
// away in deferred calls.
type guarded struct{ listeners.Listener }

// Serve is that of the listener, with the guard around each connection.
func (g guarded) Serve(establish listeners.EstablishFn) {
	g.Listener.Serve(func(id string, c net.Conn) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("mochi panics: %v", p)
			}
		}()
		return establish(id, c)
	})
}

// everyone is the hook that lets every client do everything; without one mochi
// refuses all.
type everyone struct{ mqtt.HookBase }

// ID names the hook.
func (everyone) ID() string { return "everyone" }

// Provides says what the hook decides.
func (everyone) Provides(b byte) bool { return b == mqtt.OnConnectAuthenticate || b == mqtt.OnACLCheck }

// OnConnectAuthenticate accepts every client.
func (everyone) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnACLCheck allows every topic.
func (everyone) OnACLCheck(*mqtt.Client, string, bool) bool { return true }

// noQuota turns mochi's send quota off: a broker that ignores its clients'
// receive maximum. With the quota, mochi 2.7.9 forgets a message that it had to
// park before that is acknowledged, and can deadlock when a subscriber's
// acknowledgements cross new messages for it, because looking for a parked one
// (Inflight.NextImmediate) takes a read lock twice.
type noQuota struct{ mqtt.HookBase }

// ID names the hook.
func (noQuota) ID() string { return "no quota" }

// Provides says what the hook listens to: the moments after mochi has set the
// quota of a new and of an inherited session.
func (noQuota) Provides(b byte) bool {
	return b == mqtt.OnConnect || b == mqtt.OnSessionEstablished
}

// OnConnect turns the quota of a new session off.
func (noQuota) OnConnect(cl *mqtt.Client, _ packets.Packet) error {
	cl.State.Inflight.ResetSendQuota(0)
	return nil
}

// OnSessionEstablished turns that of an inherited session off.
func (noQuota) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	cl.State.Inflight.ResetSendQuota(0)
}
