package forward

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// Whoever takes nothing any more loses the connection after the time for a
// write, even if nats.go lifts its own deadline meanwhile; half a command may
// have left, so nothing follows it.
func TestWriteThatIsStuckEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := &shared{Conn: near}
		p := &rawPublisher{conn: c, max: 1 << 20}
		begin := time.Now()
		lifted := make(chan struct{})
		go func() {
			defer close(lifted)
			io.ReadFull(far, make([]byte, 10)) // then no more
			c.SetWriteDeadline(time.Time{})
		}()
		if err := p.publish(&natsmsg.Message{Subject: "a", Header: "NATS/1.0\r\n\r\n", Body: []byte("x")}, ""); err != nil {
			t.Fatal(err)
		}
		err := p.flush()
		<-lifted
		if !errors.Is(err, errWrite) || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != writeTimeout {
			t.Errorf("flush: %v after %v", err, time.Since(begin))
		}
		if _, err := c.Write([]byte("PING\r\n")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a write behind half a command: %v", err)
		}
	})
}

func TestRawRefusesWhatTheServerWouldNotTake(t *testing.T) {
	p := &rawPublisher{max: 20}
	m := &natsmsg.Message{Subject: "a", Header: "NATS/1.0\r\n\r\n", Body: make([]byte, 8)}
	if err := p.publish(m, ""); err != nil {
		t.Error(err)
	}
	m.Body = make([]byte, 9)
	if err := p.publish(m, ""); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("a message of %d bytes: %v", m.Size(), err)
	}
}

// No message allocates between the log and the socket.
func TestPublishDoesNotAllocate(t *testing.T) {
	near, far := net.Pipe()
	go io.Copy(io.Discard, far)
	defer near.Close()
	p := &rawPublisher{conn: &shared{Conn: near}, max: 1 << 20}
	enc := natsmsg.Encoder{Prefix: "mqtt", LogID: testLogID}
	rec := record(1)
	publish := func() {
		if err := p.publish(enc.EncodeAfter(&rec, natsmsg.Link{Record: 1}), "_INBOX.x"); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 { // until the buffers have grown
		publish()
	}
	if n := testing.AllocsPerRun(10000, publish); n > 0 {
		t.Errorf("%v allocations a message", n)
	}
}
