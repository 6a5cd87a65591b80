package door

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// FuzzServe: whatever a stranger sends, its connection ends when it closes, nothing
// panics, and what it gets is whole packets.
func FuzzServe(f *testing.F) {
	for _, packets := range [][][]byte{
		{login(v311, "a"), message(2, "t", 1, false, "x"), {0xe0, 0}},
		{login(v5, "a", keep, expires(9)), message(4, "t", 1, true, "x", 0x23, 0, 1), {0x62, 2, 0, 1}, message(2, "", 2, true, "y", 0x23, 0, 1)},
		{login(v5, "", func(l *wire.Login) { l.Will = &wire.WillMessage{Topic: "w", Payload: []byte("x")} }), {0x82, 7, 0, 1, 0, 0, 1, 'a', 0}, {0xc0, 0}},
		{login(wire.Version31, "a"), message(0, "t", 0, false, "x"), ack(wire.Puback, 1)},
	} {
		f.Add(bytes.Join(packets, nil))
	}
	log := newFakeLog()
	d, err := Open(Config{Name: "door", URL: "mqtt://127.0.0.1:0", Anonymous: true, MaxConnections: 4, MaxPacket: 1 << 20, ReceiveMaximum: 5, KeepAliveMax: time.Minute}, log)
	if err != nil {
		f.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	f.Cleanup(func() { stop(); <-ended })
	f.Fuzz(func(t *testing.T, sent []byte) {
		nc, err := net.Dial("tcp", d.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := nc.Write(sent); err != nil {
			return // it was closed before
		}
		_ = nc.(*net.TCPConn).CloseWrite()
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		got, err := io.ReadAll(nc)
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Fatalf("the connection does not end; %x", got)
		}
		for len(got) > 0 {
			_, size, remaining, err := wire.FixedHeader(got)
			if err != nil || size == 0 || len(got) < size+remaining {
				return // cut by a reset
			}
			got = got[size+remaining:]
		}
	})
}
