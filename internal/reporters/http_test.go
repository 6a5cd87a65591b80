package reporters

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestHTTPConnectionsAreBounded: beyond so many, a connection waits until another ends.
func TestHTTPConnectionsAreBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }), slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	ask := func(c net.Conn, wait time.Duration) error {
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		c.SetReadDeadline(time.Now().Add(wait))
		_, err := bufio.NewReader(c).ReadByte()
		return err
	}
	var conns []net.Conn
	for range httpConnections + 1 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for i, c := range conns[:httpConnections] {
		if err := ask(c, 10*time.Second); err != nil {
			t.Fatalf("connection %d of %d: %v", i+1, httpConnections, err)
		}
	}
	last := conns[httpConnections]
	if err := ask(last, 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection too many is answered: %v", err)
	}
	conns[0].Close()
	if err := ask(last, 10*time.Second); err != nil {
		t.Errorf("it is not answered when another has ended: %v", err)
	}
}
