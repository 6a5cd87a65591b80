package prove

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
)

// floodBytes is how much an attack sends that goes on without end: more than the
// service may have, if it kept it.
const floodBytes = 1 << 30

// releaseFlood: what must be answered, from a broker that reads no answer.
var releaseFlood = attack{
	name: "PUBREL without end, no answer read",
	prepare: func(h *hostile) error {
		return h.lyingBroker("flood", func(ctx context.Context, p *peer) error {
			if err := p.greet(); err != nil {
				return err
			}
			return h.repeat(ctx, p, bytes.Repeat([]byte{0x62, 2, 0, 1}, 64<<10))
		})
	},
	run: func(ctx context.Context, h *hostile) error { // until nothing more is read
		for before := int64(-1); h.flooded.Load() > before && ctx.Err() == nil && !h.Ended(); backoff.Pause(ctx, time.Second) {
			before = h.flooded.Load()
		}
		return ctx.Err()
	},
}

// repeat writes frames until the connection ends or floodBytes have left.
func (h *hostile) repeat(ctx context.Context, p *peer, frames []byte) error {
	for sent := 0; sent < floodBytes && ctx.Err() == nil; sent += len(frames) {
		if _, err := p.Write(frames); err != nil {
			return err
		}
		h.flooded.Add(int64(len(frames)))
	}
	return ctx.Err()
}

// tooLarge: a payload and properties beyond the limits, with messages around them.
var tooLarge = attack{
	name: "250 MB of payload, 4 MB of properties",
	prepare: func(h *hostile) error {
		user := mqttetl.Property{ID: mqttetl.UserProperty, Name: []byte("n"), Value: bytes.Repeat([]byte{1}, 60000)}.Append(nil)
		return h.lyingBroker("large", func(_ context.Context, p *peer) error {
			if err := p.greet(); err != nil {
				return err
			}
			for i, m := range []struct{ props, payload []byte }{
				{nil, []byte("before")}, {nil, make([]byte, 250_000_000)},
				{bytes.Repeat(user, 70), []byte("x")}, {nil, []byte("after")},
			} {
				if err := p.publish(uint16(i+1), "large/"+fmt.Sprint(i), m.props, m.payload); err != nil {
					return err
				}
			}
			return p.answers()
		})
	},
	run: func(ctx context.Context, h *hostile) error {
		for topic, payload := range map[string]string{"large/0": "before", "large/1": "", "large/2": "", "large/3": "after"} {
			if err := h.holds(ctx, topic, payload); err != nil {
				return fmt.Errorf("%s: %w", topic, err)
			}
		}
		return nil
	},
}

// endlessHandshake: an HTTP answer without end.
var endlessHandshake = attack{
	name: "WebSocket handshake without end",
	prepare: func(h *hostile) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		headers := []byte(strings.Repeat("X-Y: z\r\n", 8<<10))
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, err := c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\n"))
					for sent := 0; err == nil && sent < floodBytes; sent += len(headers) {
						_, err = c.Write(headers)
					}
				}()
			}
		}()
		h.peers = append(h.peers, func() { l.Close() })
		h.source("handshake", "url: ws://"+l.Addr().String())
		return nil
	},
}

// textFrame: good messages before a frame that breaks WebSocket, at each
// connection until they are acknowledged.
var textFrame = attack{
	name: "a text frame after good ones",
	prepare: func(h *hostile) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		acknowledged := make(chan struct{})
		acknowledge := sync.OnceFunc(func() { close(acknowledged) }) // of several connections
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			up := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
			c, err := up.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			defer c.Close()
			select {
			case <-acknowledged:
				return
			case <-h.begun:
			}
			if sendThenText(c) {
				acknowledge()
			}
		})}
		go server.Serve(l)
		h.peers = append(h.peers, func() { server.Close() })
		h.source("text", "url: ws://"+l.Addr().String()+"\n    version: \"5\"")
		return nil
	},
	run: func(ctx context.Context, h *hostile) error { return h.holds(ctx, "text/1", "good") },
}

// sendThenText says whether the message before a text frame was acknowledged.
func sendThenText(c *websocket.Conn) bool {
	topic := "text/1"
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(append(body, topic...), 0, 7, 0)
	body = append(body, "good"...)
	for _, m := range []struct {
		kind int
		p    []byte
	}{
		{websocket.BinaryMessage, []byte{0x20, 3, 0, 0, 0}},
		{websocket.BinaryMessage, append([]byte{0x32, byte(len(body))}, body...)},
		{websocket.TextMessage, []byte("hello")},
	} {
		if c.WriteMessage(m.kind, m.p) != nil {
			return false
		}
	}
	for {
		_, p, err := c.ReadMessage()
		if err != nil {
			return false
		}
		if bytes.Equal(p, []byte{0x40, 2, 0, 7}) {
			return true
		}
	}
}
