package servers

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publishOne stores one message and returns how many the stream then holds.
func publishOne(t *testing.T, url string) uint64 {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "T", Subjects: []string{"t.>"}}); err != nil {
		t.Fatal(err)
	}
	ack, err := js.Publish(t.Context(), "t.a", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

func TestNATSProcessSurvivesKill(t *testing.T) {
	n, err := StartNATSProcess(t.TempDir(), "max_payload: 4096")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Kill()
	url := n.URL()
	for want := uint64(1); want <= 2; want++ {
		if got := publishOne(t, url); got != want {
			t.Errorf("message %d of the stream, want %d", got, want)
		}
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if nc, err := nats.Connect(url, nats.Timeout(time.Second)); err == nil {
			nc.Close()
			t.Fatal("the killed server answers")
		}
		if err := n.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Restart(); err == nil {
		t.Error("a second start while it runs succeeded")
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
}

func TestNATSProcessBadConfig(t *testing.T) {
	if _, err := StartNATSProcess(t.TempDir(), "no such thing {"); err == nil {
		t.Error("a server with a broken configuration started")
	}
}

func TestNATSProcessAbsent(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := findNATS()
	if err != nil && !errors.Is(err, ErrNoNATS) {
		t.Errorf("got %v, want ErrNoNATS", err)
	}
}
