package forward_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// A forwarder publishes the records of a log to a stream, for ever, each one once.
func Example() {
	dir, err := os.MkdirTemp("", "forward")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	server, err := embedded.StartNATS(filepath.Join(dir, "jetstream"))
	if err != nil {
		log.Fatal(err)
	}
	defer server.Stop()
	l, err := wal.Open(filepath.Join(dir, "log"), wal.Options{MaxSize: 64 << 20, Consumers: []string{"nats"}})
	if err != nil {
		log.Fatal(err)
	}
	forwarder, err := forward.New(forward.Config{URL: server.URL(), Stream: "TELEMETRY", SubjectPrefix: "mqtt", LogID: l.ID(), Key: l.Key()}, l.Consumer("nats"))
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- l.Run(ctx) }()
	go func() { ended <- forwarder.Run(ctx) }()

	b := &mqttetl.Batch{Source: "plant", Done: func(mqttetl.Seq, error) {}}
	b.Append(1_767_642_776_000_000_000, mqttetl.Message{Topic: []byte("factory/1/temp"), Payload: []byte("21.5")})
	l.Append(b)

	nc, err := nats.Connect(server.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		log.Fatal(err)
	}
	for again := time.NewTicker(time.Millisecond); forwarder.Stats().Cursor < 1; <-again.C {
	}
	stream, err := js.Stream(ctx, "TELEMETRY")
	if err != nil {
		log.Fatal(err)
	}
	m, err := stream.GetMsg(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n", m.Subject, m.Data)

	stop()
	<-ended
	<-ended
	if err := l.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// mqtt.factory.1.temp 21.5
}
