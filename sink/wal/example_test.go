package wal_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// What was handed over is on disk when Done is called, and may be acknowledged
// then. A consumer reads it, and says when it holds it durably itself.
func Example() {
	dir, err := os.MkdirTemp("", "log")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := wal.Open(dir, wal.Options{MaxSize: 64 << 20, Consumers: []string{"reader"}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()

	durable := make(chan mqttetl.Seq)
	b := &mqttetl.Batch{Source: "plant", Done: func(first mqttetl.Seq, err error) { durable <- first }}
	b.Append(1_767_642_776_000_000_000, mqttetl.Message{Topic: []byte("factory/1/temp"), Payload: []byte("21.5")})
	l.Append(b)
	fmt.Println("on disk, from record", <-durable)

	reader := l.Consumer("reader")
	if _, err := reader.Seek(0); err != nil {
		log.Fatal(err)
	}
	records, err := reader.Next(ctx, 100)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range records {
		fmt.Printf("%d %s %s\n", r.Seq, r.Topic, r.Payload)
	}
	reader.Commit(records[len(records)-1].Seq)

	stop()
	<-ended
	if err := l.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// on disk, from record 1
	// 1 factory/1/temp 21.5
}
