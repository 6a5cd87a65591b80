package dial

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// TestEndlessHandshake: an answer to the handshake that does not end is read up
// to its limit.
func TestEndlessHandshake(t *testing.T) {
	for name, pieces := range map[string][2]string{
		"status line": {"HTTP/1.1 101 ", strings.Repeat("x", 4096)},
		"one header":  {"HTTP/1.1 101 Switching Protocols\r\nX: ", strings.Repeat("x", 4096)},
		"headers":     {"HTTP/1.1 101 Switching Protocols\r\n", strings.Repeat("X-Y: z\r\n", 512)},
		"folded":      {"HTTP/1.1 101 Switching Protocols\r\nX: y\r\n", strings.Repeat(" z\r\n", 1024)},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var sent atomic.Int64
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				for _, err = c.Write([]byte(pieces[0])); err == nil && sent.Load() < 64<<20; {
					var n int
					n, err = c.Write([]byte(pieces[1]))
					sent.Add(int64(n))
				}
			}()
			u, err := URL("ws://" + l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, err = new(Dialer).Dial(context.Background(), u)
			if !errors.Is(err, errLongAnswer) {
				t.Errorf("got %v, want %v", err, errLongAnswer)
			}
			<-ended
			if n := sent.Load(); n >= 64<<20 {
				t.Errorf("%d bytes were taken", n)
			}
		})
	}
}

func TestMask(t *testing.T) {
	key := []byte{1, 2, 3, 4}
	for n := range 40 {
		p := make([]byte, n)
		mask(p, key)
		for i, b := range p {
			if b != key[i&3] {
				t.Fatalf("byte %d of %d is %d, want %d", i, n, b, key[i&3])
			}
		}
	}
}
