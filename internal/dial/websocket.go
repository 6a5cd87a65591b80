package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// ErrText: the broker sent a WebSocket message that is not binary (MQTT 5 §6.0).
var ErrText = errors.New("a WebSocket message that is not binary (MQTT 5 §6.0)")

// webSocket is MQTT over WebSocket (MQTT 5 §6): a stream of bytes in binary
// messages, whose boundaries mean nothing. One Write is one message.
type webSocket struct {
	*websocket.Conn
	message io.Reader                 // the rest of the message being read
	writeBy atomic.Pointer[time.Time] // the write deadline, nil for none
}

func (d *Dialer) webSocket(ctx context.Context, u *url.URL) (net.Conn, error) {
	connected := false
	w := websocket.Dialer{
		Subprotocols:   []string{"mqtt"},
		ReadBufferSize: 64 << 10,
		NetDialContext: func(ctx context.Context, _, address string) (c net.Conn, err error) {
			c, err = d.tcp(ctx, address)
			connected = err == nil
			return c, err
		},
		NetDialTLSContext: func(ctx context.Context, _, address string) (c net.Conn, err error) {
			c, err = d.tls(ctx, address, append(d.TLS.ALPN[:len(d.TLS.ALPN):len(d.TLS.ALPN)], "http/1.1"))
			connected = err == nil
			return c, err
		},
	}
	target := *u
	target.User = nil // the login belongs into CONNECT
	c, answer, err := w.DialContext(ctx, target.String(), nil)
	if err == nil {
		return &webSocket{Conn: c}, nil
	}
	if answer == nil {
		err = fmt.Errorf("WebSocket %s: %w", secret.URL(target.String()), err)
		if connected {
			err = mqttetl.WithHint(unreachable{err}, "does this port speak WebSocket? MQTT without it is mqtt://, with TLS mqtts://")
		}
		return nil, err
	}
	return nil, mqttetl.WithHint(
		unreachable{fmt.Errorf("WebSocket %s: %w: HTTP %s%s", secret.URL(target.String()), err, answer.Status, kind(answer))},
		"there is no MQTT at this path; brokers use /mqtt, / or /ws")
}

// kind tells what was answered instead of a WebSocket.
func kind(answer *http.Response) string {
	kind, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
	if kind == "" {
		return ""
	}
	return ", " + kind
}

// Read continues with the present message or waits for the next one.
func (w *webSocket) Read(p []byte) (int, error) {
	for {
		if w.message == nil {
			kind, r, err := w.NextReader()
			if err != nil {
				return 0, endOf(err)
			}
			if kind != websocket.BinaryMessage {
				return 0, ErrText
			}
			w.message = r
		}
		n, err := w.message.Read(p)
		if errors.Is(err, io.EOF) {
			w.message = nil
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// endOf turns the end of a WebSocket into the end of the stream, also one
// without a goodbye: brokers drop clients by just closing.
func endOf(err error) error {
	if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived,
		websocket.CloseAbnormalClosure) {
		return io.EOF
	}
	return err
}

// Write sends p as one binary message. One goroutine at a time may call it.
func (w *webSocket) Write(p []byte) (int, error) {
	if t := w.writeBy.Load(); t != nil {
		_ = w.Conn.SetWriteDeadline(*t) // keeps it for the write, never fails
	}
	if err := w.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetWriteDeadline holds for a Write under way, which the library's own would
// race with, and for those that follow.
func (w *webSocket) SetWriteDeadline(t time.Time) error {
	w.writeBy.Store(&t)
	return w.NetConn().SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (w *webSocket) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}
