package main

import (
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// corePrefix is the subject prefix of what no stream takes.
const corePrefix = "core"

// publishingCore is what the bare publisher to core NATS is to do.
type publishingCore struct {
	URL, Prefix       string
	Messages, Payload int
}

// core is the role of a program that publishes payloads that it has in memory to
// core NATS, without a header: what a replay is measured against.
func core(l *link, p publishingCore) error {
	nc, err := nats.Connect(p.URL)
	if err != nil {
		return err
	}
	defer nc.Close()
	subjects := make([]string, topics)
	for i := range subjects {
		subjects[i] = p.Prefix + "." + strings.ReplaceAll(topic(i), "/", ".")
	}
	body := payload(0, p.Payload)
	if err := errors.Join(l.say(subscribed{}), l.awaitGo()); err != nil {
		return err
	}
	var t deliveryTimes
	t.Start = time.Now().UnixNano()
	for i := range p.Messages {
		if err := nc.Publish(subjects[i%topics], body); err != nil {
			return err
		}
		increment(body[:counterDigits])
	}
	if err := nc.Flush(); err != nil {
		return err
	}
	t.End = time.Now().UnixNano()
	return l.done(t)
}
