package ingest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// swallow reads what the broker is sent until it is sent no more.
func swallow(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// TestNotesOfOneName: counts that change without end are one note of a batch.
func TestNotesOfOneName(t *testing.T) {
	log := newFakeLog(t)
	w := newWire(t, log, true, true, nil)
	log.hold(true)
	var frames []byte
	for i := range 5000 {
		frames = append(frames, publishFrame(true, 0, 0, droppedTopic, nil, fmt.Append(nil, i))...)
	}
	w.send(t, append(frames, wire.Pingresp<<4, 0))
	w.nextControl(t)
	if _, batches := log.pending(); batches > 50 {
		t.Errorf("%d batches for 5000 counts", batches)
	}
	log.hold(false)
	eventually(t, "the last count is noted", func() bool {
		note, _ := log.Note(noteName("dropped", w.conn.link.url.Host))
		return string(note) == "4999"
	})
}

// TestLargeNeedsItself: a large message takes half as much again as it has, while
// it comes.
func TestLargeNeedsItself(t *testing.T) {
	const size = 60 << 20
	log := newFakeLog(t)
	w := newWire(t, log, true, true, nil)
	log.hold(true)
	frame := publishFrame(true, 2, 1, "t", nil, make([]byte, size))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w.send(t, frame)
	eventually(t, "it has come", func() bool { n, _ := log.pending(); return n > size })
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 3*size {
		t.Errorf("%d bytes allocated for %d", got, size)
	}
	if b := log.queue[len(log.queue)-1]; b.Cap() > size+size/10 {
		t.Errorf("a buffer of %d bytes for %d", b.Cap(), size)
	}
	log.hold(false)
	w.expect(t, puback(1))
}

// TestUnansweredSubscribe: a broker that answers no SUBSCRIBE is told of after the
// same time with each version, also if it answers nothing at all.
func TestUnansweredSubscribe(t *testing.T) {
	for _, version := range []string{Version5, Version311} {
		for _, pings := range []bool{true, false} {
			t.Run(fmt.Sprint(version, " pings ", pings), func(t *testing.T) {
				b := &picky{with: func(c net.Conn, level byte, _ int) bool {
					connack := []byte{wire.Connack << 4, 2, 0, 0}
					if level == 5 {
						connack = []byte{wire.Connack << 4, 3, 0, 0, 0}
					}
					_, _ = c.Write(connack)
					if pings {
						answerPings(c)
					}
					swallow(c)
					return false
				}}
				lines := &logLines{}
				s := newSource(t, Config{
					URL: "mqtt://" + b.start(t), ClientID: "c", Version: version, Subscribe: []string{"t"},
					KeepAlive: time.Second, Logger: lines.logger(),
				}, newFakeLog(t))
				if pings {
					s.links[0].pace.suback = 3 * time.Second // longer than the pings need to notice
				}
				start(t, s)
				says := "subscribe to t: "
				if !pings {
					says = "PINGRESP"
				}
				eventually(t, "/status says "+says, func() bool { return strings.Contains(s.Stats().Error, says) })
				eventually(t, "the log says "+says, func() bool { return lines.count(says) > 0 || lines.count("a subscription failed") > 0 })
				if s.Stats().Subscribed {
					t.Error("it counts as subscribed")
				}
			})
		}
	}
}

func answerPings(c net.Conn) {
	var head [2]byte
	for {
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		_, _ = io.CopyN(io.Discard, c, int64(head[1]))
		if head[0]>>4 == wire.Pingreq {
			_, _ = c.Write(pingresp)
		}
	}
}

// TestClosedDirection: what a broker has sent before it closes its direction is
// acknowledged, or it would send it again at each connection.
func TestClosedDirection(t *testing.T) {
	log := newFakeLog(t)
	w := newWire(t, log, true, true, nil)
	log.hold(true)
	w.send(t, publishFrame(true, 2, 1, "t", nil, nil))
	_ = w.broker.(*net.TCPConn).CloseWrite()
	eventually(t, "it has come", func() bool { _, n := log.pending(); return n > 0 })
	log.hold(false)
	w.expect(t, puback(1))
	if err := w.end(t); err != errClosedByBroker {
		t.Errorf("ended with %v", err)
	}
}

// TestBrokenWebSocket: what came before a frame that breaks WebSocket is
// committed and acknowledged, before the connection ends.
func TestBrokenWebSocket(t *testing.T) {
	for name, frame := range map[string][]byte{
		"text":              {0x81, 2, 'h', 'i'},
		"opcode":            {0x83, 0},
		"masked":            {0x82, 0x80, 1, 2, 3, 4},
		"reserved bits":     {0xf2, 0},
		"continuation":      {0x80, 0},
		"two beginnings":    {0x02, 1, wire.Pingresp << 4, 0x02, 0},
		"long ping":         {0x89, 126, 0, 200},
		"ping in pieces":    {0x09, 0},
		"close code":        {0x88, 2, 0, 1},
		"close":             {0x88, 2, 3, 0xe8},
		"negative length":   {0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0},
		"MQTT in a message": {0x82, 2, 0xf0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			log := newFakeLog(t)
			log.hold(true)
			got := make(chan []byte, 1)
			address := serveWebSocket(t, func(c net.Conn) {
				_, _ = c.Write(append(binaryFrame(publishFrame(true, 2, 1, "t", nil, nil)), frame...))
				eventually(t, "it has come", func() bool { _, n := log.pending(); return n > 0 })
				log.hold(false)
				got <- binaryMessage(c)
			})
			s := newSource(t, Config{URL: "ws://" + address, ClientID: "c", Version: Version5, Subscribe: []string{"t"}}, log)
			start(t, s)
			select {
			case p := <-got:
				if !bytes.Equal(p, puback(1)) {
					t.Fatalf("the broker got % x, want the PUBACK % x", p, puback(1))
				}
			case <-time.After(patience):
				t.Fatal("no acknowledgement")
			}
		})
	}
}

// serveWebSocket is a broker whose first connection, after CONNECT and CONNACK,
// is left to hostile; those after it get no answer.
func serveWebSocket(t *testing.T, hostile func(net.Conn)) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := true
	up := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !first {
			http.Error(w, "once", http.StatusGone)
			return
		}
		first = false
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		if _, _, err := c.ReadMessage(); err == nil {
			_ = c.WriteMessage(websocket.BinaryMessage, []byte{wire.Connack << 4, 3, 0, 0, 0})
			hostile(c.NetConn())
		}
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

func binaryFrame(p []byte) []byte { return append([]byte{0x82, byte(len(p))}, p...) }

// binaryMessage returns the next message that is no SUBSCRIBE.
func binaryMessage(c net.Conn) []byte {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for {
		head := make([]byte, 6)
		if _, err := io.ReadFull(c, head); err != nil {
			return nil
		}
		p := make([]byte, head[1]&0x7f)
		if _, err := io.ReadFull(c, p); err != nil {
			return nil
		}
		key := binary.LittleEndian.AppendUint32(nil, binary.LittleEndian.Uint32(head[2:]))
		for i := range p {
			p[i] ^= key[i&3]
		}
		if len(p) > 0 && p[0]>>4 != wire.Subscribe && p[0]>>4 != wire.Pingreq {
			return p
		}
	}
}
