package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
func core(l *link, parameters []byte) error {
	var p publishingCore
	if err := json.Unmarshal(parameters, &p); err != nil {
		return err
	}
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
	if err := l.say(delivered{deliveryTimes: t}); err != nil {
		return err
	}
	l.awaitEnd()
	return nil
}

// pace measures how far from its recorded offset each message of a replay as
// recorded reaches a subscriber. The zero of the offsets is that of the median
// message: a delay that all have is none.
func (t *toolbox) pace() error {
	n := min(t.n, t.scaled(int(toolPace*toolPaceTime.Seconds())))
	arrived := make([]int64, n)
	var wrong error
	seen := 0
	sub, err := t.nc.Subscribe(corePrefix+".>", func(m *nats.Msg) {
		now := time.Now().UnixNano()
		i, err := counter(m.Data)
		if err != nil || i != uint64(seen) || seen == n {
			wrong = errors.Join(err, fmt.Errorf("message %d in place of %d", i, seen))
			return
		}
		arrived[seen] = now
		seen++
	})
	if err != nil {
		return err
	}
	if err := t.nc.Flush(); err != nil {
		return err
	}
	p, err := t.execute(n, nil, t.binary, "replay", "--archive", t.db, "--to", t.server.URL(), "--subject-prefix", corePrefix,
		"--speed", "1", "--limit", fmt.Sprint(n))
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(ended) })
	if err := sub.Drain(); err != nil { // the handler has seen all that came before
		return err
	}
	<-ended
	if wrong != nil || seen != n {
		return fmt.Errorf("%s: %d messages of %d arrived: %w", replayPace, seen, n, wrong)
	}
	p.Latency = deviations(arrived, time.Second/toolPace)
	t.r.add(toolPoint(replayPace), p.measurement)
	t.logf("%-33s %6d msg/s  p50 %v  p99 %v  max %v from the recorded offsets", replayPace, toolPace, p.Latency.P50, p.Latency.P99, p.Latency.Max)
	return nil
}

// deviations are how far times are from a grid of that step, which lies so that
// the median is 0.
func deviations(times []int64, step time.Duration) quantiles {
	late := make([]int64, len(times))
	for i, at := range times {
		late[i] = at - int64(i)*int64(step)
	}
	sorted := slices.Sorted(slices.Values(late))
	middle := sorted[len(sorted)/2]
	h := newLatencies()
	for _, d := range late {
		record(h, max(d-middle, middle-d))
	}
	return quantilesOf(h)
}
