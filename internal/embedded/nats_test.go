package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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

func TestNATSKeepsItsStore(t *testing.T) {
	dir := t.TempDir()
	for want := uint64(1); want <= 2; want++ {
		n, err := StartNATS(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := publishOne(t, n.URL()); got != want {
			t.Errorf("message %d of the stream, want %d", got, want)
		}
		n.Stop()
	}
}

// A store that cannot be used is said at once, and not after the time in which a
// server gets ready.
func TestNATSWithoutItsStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	n, err := StartNATS(file)
	if err == nil {
		n.Stop()
	}
	if path := (*fs.PathError)(nil); !errors.As(err, &path) || path.Path != file || time.Since(began) > natsReady/2 {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
