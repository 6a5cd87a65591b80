package ingest_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/embedded"
)

// disk is a log that has everything on disk at once. A real one is wal.Log.
type disk struct{ records chan string }

func (d disk) Append(b *mqttetl.Batch) {
	list, err := mqttetl.DecodeRecords(nil, b.Bytes(), b.Len(), 1, b.Source)
	for _, r := range list {
		d.records <- fmt.Sprintf("%s %s %s", r.Source, r.Topic, r.Payload)
	}
	b.Done(1, err) // from here on the messages may be acknowledged
}
func (disk) Hurry()                             {}
func (disk) PacketIDs(string) ([]uint16, error) { return nil, nil }
func (disk) Note(string) ([]byte, error)        { return nil, nil }

// A source hands over what its broker sends, and acknowledges it when the log
// calls Done.
func Example() {
	broker, err := embedded.StartMochi("")
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	d := disk{make(chan string, 1)}
	source, err := ingest.New(ingest.Config{Name: "plant", URL: broker.URL, ClientID: "example", Subscribe: []string{"factory/#"}, QoS: 1}, d)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- source.Run(ctx) }()

	conn, err := net.Dial("tcp", broker.Addr)
	if err != nil {
		log.Fatal(err)
	}
	device, err := client.Connect(ctx, conn, client.Options{Version: client.Version311, ClientID: "device", CleanStart: true})
	if err != nil {
		log.Fatal(err)
	}
	// Retained: it comes whether or not the source has subscribed already.
	if _, err := device.Publish(&client.Message{Topic: "factory/1/temp", Payload: []byte("21.5"), QoS: 1, Retain: true}); err != nil {
		log.Fatal(err)
	}
	device.Flush()
	fmt.Println(<-d.records)
	device.Disconnect(0)
	stop()
	<-ended
	// Output:
	// plant factory/1/temp 21.5
}
