package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publishingBare is what the bare publisher to JetStream is to do.
type publishingBare struct {
	URL      string
	Stream   string // to be made, for subjects <prefix>.>
	Prefix   string
	Messages int
	Payload  int
}

// barePending is how many messages the bare publisher has in flight.
const barePending = 8192

// bare is the role of a program that has the messages in memory and publishes
// them with the client library's asynchronous publisher and a Nats-Msg-Id each:
// what the forwarder is measured against.
func bare(l *link, p publishingBare) error {
	nc, err := nats.Connect(p.URL)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(barePending))
	if err != nil {
		return err
	}
	if err := makeStream(js, p.Stream, p.Prefix); err != nil {
		return err
	}
	if err := errors.Join(l.say(subscribed{}), l.awaitGo()); err != nil {
		return err
	}
	times, err := publishAll(js, p)
	if err != nil {
		return err
	}
	return l.done(times)
}

// makeStream makes the stream as mqttetl does.
func makeStream(js jetstream.JetStream, name, prefix string) error {
	_, err := js.CreateStream(context.Background(), jetstream.StreamConfig{
		Name: name, Subjects: []string{prefix + ".>"}, Storage: jetstream.FileStorage,
	})
	return err
}

// publishAll publishes all messages and waits until all are acknowledged.
func publishAll(js jetstream.JetStream, p publishingBare) (t deliveryTimes, err error) {
	subjects := make([]string, topics)
	for i := range subjects {
		subjects[i] = p.Prefix + "." + strings.ReplaceAll(topic(i), "/", ".")
	}
	body := payload(0, p.Payload)
	patient := jetstream.WithStallWait(time.Minute) // a disk that stalls fails nothing
	t.Start = time.Now().UnixNano()
	for i := range p.Messages {
		m := &nats.Msg{
			Subject: subjects[i%topics],
			Header:  nats.Header{nats.MsgIdHdr: {fmt.Sprintf("0123456789abcdef-%d", i+1)}},
			Data:    append([]byte(nil), body...),
		}
		if _, err := js.PublishMsgAsync(m, patient); err != nil {
			return t, err
		}
		increment(body[:counterDigits])
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		return t, errors.New("not acknowledged within a minute")
	}
	t.End = time.Now().UnixNano()
	return t, nil
}
