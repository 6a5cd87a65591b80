package compare

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// mute is a NATS server that answers the login, and then no PING any more.
func mute(t *testing.T, pings chan<- struct{}) (url string, read <-chan int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	total := make(chan int, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, `INFO {"server_id":"mute","version":"2.10.0","proto":1,"max_payload":1048576}`+"\r\n")
		in, n, login := bufio.NewReader(c), 0, true
		for {
			line, err := in.ReadString('\n')
			if n += len(line); err != nil {
				total <- n
				return
			}
			if line != "PING\r\n" {
				continue
			}
			if login {
				io.WriteString(c, pongText)
				login = false
			} else {
				pings <- struct{}{}
			}
		}
	}()
	return "nats://" + l.Addr().String(), total
}

// A server that reads but answers no PING gets no more than the bound.
func TestCorePublisherIsBounded(t *testing.T) {
	for _, subscribers := range []int{0, 1} {
		pings := make(chan struct{}, 100)
		url, read := mute(t, pings)
		tr := (&world{}).newTrial(context.Background(), &Case{Publishers: 1, Subscribers: subscribers, Size: 128, Topics: 1})
		p, err := newCorePublisher(tr, natsAt{url: url}, 0)
		if err != nil {
			t.Fatal(err)
		}
		quit, ended := make(chan struct{}), make(chan error, 1)
		go func() { ended <- p.publish(quit) }()
		for range coreUnread {
			<-pings
		}
		close(quit)
		err = <-ended
		p.close()
		n, most := <-read, coreUnread*(p.step+2*coreWrite)+p.step
		if !errors.Is(err, errQuit) || n > most || n < coreUnread*p.step {
			t.Errorf("%d subscribers: %v, %d bytes unread, want at most %d", subscribers, err, n, most)
		}
	}
}

func TestPongsAreCounted(t *testing.T) {
	const text = "INFO {}\r\nPONG\r\nPPONG\r\nPONG\rPONG\r\n-ERR 'x'\r\n+OK\r\nPONG\r\n"
	for name, r := range map[string]io.Reader{
		"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)),
	} {
		n := 0
		c := &natsConn{Conn: reading{Reader: r}, pong: func(k int) { n += k }}
		if got, err := io.ReadAll(c); err != nil || string(got) != text || n != 4 {
			t.Errorf("%s: %d PONGs, %v, read %q", name, n, err, got)
		}
	}
}

// reading is a connection that can only be read.
type reading struct {
	net.Conn
	io.Reader
}

func (r reading) Read(p []byte) (int, error) { return r.Reader.Read(p) }

func TestPayloadOverTheServersLimit(t *testing.T) {
	t.Parallel()
	cfg := config(t, `^nats/core$`)
	cfg.Sizes = []int{1<<20 + 1}
	r := compare(t, cfg)
	if c := &r.Cases[0]; !strings.Contains(c.Error, "the server takes 1048576 (max_payload)") {
		t.Errorf("error %q", c.Error)
	}
}
