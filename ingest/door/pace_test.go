package door

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// TestOneInFlight: a device that sends the next message when it has its PUBACK waits for
// few intervals of the log, until it is known to wait.
func TestOneInFlight(t *testing.T) {
	const interval, messages = 200 * time.Millisecond, 100
	log, err := wal.Open(t.TempDir(), wal.Options{Interval: interval})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended; _ = log.Close() })
	d := open(t, log, Config{})

	nc, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	ask := func(p []byte) {
		t.Helper()
		if _, err := nc.Write(p); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(nc, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	ask([]byte("\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02d1"))
	slow := 0
	for id := byte(1); id <= messages; id++ {
		begun := time.Now()
		ask([]byte{wire.Publish<<4 | 2, 7, 0, 1, 't', 0, id, '2', '1'})
		if time.Since(begun) > interval/2 {
			slow++
		}
	}
	// Three to be known, and some that a busy machine has kept from being sent at once.
	if slow > messages/5 {
		t.Errorf("%d of %d messages waited for an interval", slow, messages)
	}
}
