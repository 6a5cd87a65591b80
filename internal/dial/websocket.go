package dial

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// ErrBroken: the broker broke the protocol of WebSocket, or sent a message that
// is not binary (MQTT 5 §6.0). What it has sent before can still be answered.
var ErrBroken = errors.New("broken WebSocket")

// longestAnswer bounds the broker's answer to the handshake, in bytes; the
// library would take headers without end.
const longestAnswer = 128 << 10

// errLongAnswer: the answer to the handshake is longer.
var errLongAnswer = fmt.Errorf("an answer to the handshake of more than %d bytes", longestAnswer)

// pongTime is how long the broker may take to read the answer to its ping.
const pongTime = time.Second

// webSocket is MQTT over WebSocket (MQTT 5 §6): a stream of bytes in binary
// messages, whose boundaries mean nothing. One Write is one message.
//
// Of the library it uses the handshake and the reader. It writes by itself,
// because the library says goodbye as soon as it has read something wrong, and
// nothing can be written from then on, such as the acknowledgements of what came before.
type webSocket struct {
	*websocket.Conn
	gate    *gate
	message io.Reader                 // the rest of the message being read
	writeBy atomic.Pointer[time.Time] // the write deadline, nil for none
	goodbye atomic.Bool               // the broker has ended the WebSocket, or broken it

	mu  sync.Mutex // one frame at a time
	out []byte
}

// A gate is the stream below. It bounds the handshake, and lets nothing of the
// library's pass after it.
type gate struct {
	net.Conn
	left     int  // bytes of the handshake that may still come
	upgraded bool // the handshake is over
	failed   bool // the stream has ended
}

func (g *gate) Read(p []byte) (int, error) {
	if !g.upgraded {
		if g.left == 0 {
			return 0, errLongAnswer
		}
		p = p[:min(len(p), g.left)]
	}
	n, err := g.Conn.Read(p)
	if !g.upgraded {
		g.left -= n
	}
	g.failed = g.failed || err != nil
	return n, err
}

func (g *gate) Write(p []byte) (int, error) {
	if g.upgraded {
		return len(p), nil
	}
	return g.Conn.Write(p)
}

func (d *Dialer) webSocket(ctx context.Context, u *url.URL) (net.Conn, error) {
	connected := false
	var below *gate
	opened := func(c net.Conn, err error) (net.Conn, error) {
		if connected = err == nil; err != nil {
			return nil, err
		}
		below = &gate{Conn: c, left: longestAnswer}
		return below, nil
	}
	w := websocket.Dialer{
		Subprotocols:   []string{"mqtt"},
		ReadBufferSize: 64 << 10,
		NetDialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return opened(d.tcp(ctx, address))
		},
		NetDialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return opened(d.tls(ctx, address, append(d.TLS.ALPN[:len(d.TLS.ALPN):len(d.TLS.ALPN)], "http/1.1")))
		},
	}
	if d.noMQTT {
		w.Subprotocols = nil
	}
	target := *u
	target.User = nil // the login belongs into CONNECT
	c, answer, err := w.DialContext(ctx, target.String(), nil)
	if err == nil {
		below.upgraded = true
		return newWebSocket(c, below), nil
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

func newWebSocket(c *websocket.Conn, below *gate) *webSocket {
	w := &webSocket{Conn: c, gate: below}
	c.SetPingHandler(w.pong)
	return w
}

// Read continues with the present message or waits for the next one.
func (w *webSocket) Read(p []byte) (int, error) {
	for {
		if w.message == nil {
			kind, r, err := w.NextReader()
			if err != nil {
				return 0, w.endOf(err)
			}
			if kind != websocket.BinaryMessage {
				return 0, fmt.Errorf("%w: a message that is not binary (MQTT 5 §6.0)", ErrBroken)
			}
			w.message = r
		}
		n, err := w.message.Read(p)
		if err == io.EOF { // of the message: that of the stream is another error
			w.message = nil
			err = nil
		}
		if n > 0 || err != nil {
			return n, w.endOf(err)
		}
	}
}

// endOf turns the end of a WebSocket into the end of the stream, also one
// without a goodbye: brokers drop clients by just closing. What is neither that
// nor an error of the stream is one of the broker.
func (w *webSocket) endOf(err error) error {
	if err == nil {
		return nil
	}
	var bye *websocket.CloseError
	said := errors.As(err, &bye)
	w.goodbye.Store(said || !w.gate.failed)
	if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived,
		websocket.CloseAbnormalClosure) {
		return io.EOF
	}
	if !said && !w.gate.failed && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return err
}

// Write sends p as one binary message. One goroutine at a time may call it.
func (w *webSocket) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.frame(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// keptFrame is the largest buffer of a frame, in bytes, that is kept.
const keptFrame = 64 << 10

// frame writes a whole message (RFC 6455 §5.2). It needs mu.
func (w *webSocket) frame(kind byte, p []byte) error {
	const final, masked = 0x80, 0x80
	b := append(w.out[:0], final|kind)
	switch n := len(p); {
	case n < 126:
		b = append(b, masked|byte(n))
	case n <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
	}
	key := binary.LittleEndian.AppendUint32(nil, rand.Uint32())
	b = append(b, key...)
	from := len(b)
	b = append(b, p...)
	mask(b[from:], key)
	if w.out = b; cap(b) > keptFrame {
		w.out = nil
	}
	_, err := w.gate.Conn.Write(b)
	return err
}

// mask is the masking of RFC 6455 §5.3.
func mask(p, key []byte) {
	word := uint64(binary.LittleEndian.Uint32(key)) * (1<<32 + 1)
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^word)
	}
	for i := range p {
		p[i] ^= key[i&3]
	}
}

// pong answers a ping. A ping that comes while something is being written is not
// answered: the broker sees then that we are there, and only a later one need be.
func (w *webSocket) pong(data string) error {
	if !w.mu.TryLock() {
		return nil
	}
	defer w.mu.Unlock()
	until := time.Now().Add(pongTime)
	if t := w.writeBy.Load(); t != nil && !t.IsZero() && t.Before(until) {
		until = *t
	}
	_ = w.gate.SetWriteDeadline(until)
	err := w.frame(websocket.PongMessage, []byte(data))
	var whole time.Time
	if t := w.writeBy.Load(); t != nil {
		whole = *t
	}
	_ = w.gate.SetWriteDeadline(whole)
	return err
}

// Close closes the stream. A broker that has ended the WebSocket is told that we
// have read it, if that needs no waiting.
func (w *webSocket) Close() error {
	if w.goodbye.Load() && w.mu.TryLock() {
		_ = w.gate.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		_ = w.frame(websocket.CloseMessage, nil)
		w.mu.Unlock()
	}
	return w.Conn.Close()
}

// SetWriteDeadline holds for a Write under way and for those that follow.
func (w *webSocket) SetWriteDeadline(t time.Time) error {
	w.writeBy.Store(&t)
	return w.gate.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (w *webSocket) SetDeadline(t time.Time) error {
	return errors.Join(w.SetReadDeadline(t), w.SetWriteDeadline(t))
}
