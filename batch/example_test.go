package batch_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/history"
	"github.com/mqttetl/mqttetl/sink/store"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// A batcher drains the log into the archive, for ever. What it has archived it
// need not find in the log any more.
func Example() {
	dir, err := os.MkdirTemp("", "batch")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := wal.Open(filepath.Join(dir, "log"), wal.Options{MaxSize: 64 << 20, Consumers: []string{"archive"}})
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "telemetry.db")
	reads := struct {
		*wal.Consumer
		*wal.Log
	}{l.Consumer("archive"), l}
	batcher := batch.New(batch.Config{Name: path, Count: 1,
		Open: func(o store.Options) (batch.Archive, error) { return archive.OpenWith(path, l.ID(), o) }}, reads)

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- l.Run(ctx) }()
	go func() { ended <- batcher.Run(ctx) }()

	durable := make(chan error)
	b := &mqttetl.Batch{Source: "plant", Done: func(_ mqttetl.Seq, err error) { durable <- err }}
	b.Append(1_767_642_776_000_000_000, mqttetl.Message{Topic: []byte("factory/1/temp"), Payload: []byte("21.5")})
	l.Append(b)
	fmt.Println("in the log:", <-durable)
	for again := time.NewTicker(time.Millisecond); batcher.Stats().Cursor < 1; <-again.C {
	}
	fmt.Println("in the archive: record", batcher.Stats().Cursor)

	stop()
	<-ended
	<-ended
	if err := l.Close(); err != nil {
		log.Fatal(err)
	}

	h, err := history.Open(history.Places{Archive: path})
	if err != nil {
		log.Fatal(err)
	}
	defer h.Close()
	records, err := h.Select(mqttetl.Selection{Topics: []mqttetl.Filter{"factory/#"}}).Next(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n", records[0].Topic, records[0].Payload)
	// Output:
	// in the log: <nil>
	// in the archive: record 1
	// factory/1/temp 21.5
}
