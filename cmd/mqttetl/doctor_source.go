package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// Patience of the checks.
const (
	doctorTime = 15 * time.Second
	quietTime  = 500 * time.Millisecond // nothing more arrives after so long
)

// patientOf examines one source.
type patientOf struct {
	*doctor
	part   string
	source *config.Source
	url    *url.URL
	conn   *client.Client
	held   atomic.Int64 // messages of ours that arrived and were not acknowledged
	last   atomic.Int64 // when the last of them arrived, Unix ns
	topic  string
	drops  chan string // what the broker says it has dropped
}

// source makes the checks of one source, as far as each lets the next be made.
func (d *doctor) source(ctx context.Context, s *config.Source) {
	p := &patientOf{
		doctor: d, part: sourcePart(s), source: s,
		topic: "mqttetl/doctor/" + rand.Text()[:12], drops: make(chan string, 1),
	}
	ctx, cancel := context.WithTimeout(ctx, 4*doctorTime)
	defer cancel()
	if !p.login(ctx) {
		return
	}
	defer p.conn.Disconnect(0)
	p.subscriptions(ctx)
	p.window(ctx)
	p.dropped(ctx)
}

// login connects with the version that the source would use.
func (p *patientOf) login(ctx context.Context) bool {
	u, err := dial.URL(p.source.URL)
	if err != nil {
		p.failed(p.part, "reachable", "", err)
		return false
	}
	p.url = u
	began := time.Now()
	version, _ := client.ParseVersion(p.source.Version) // which the configuration has checked
	p.conn, err = p.connect(ctx, version)
	var r *client.Refusal
	switch {
	case errors.As(err, &r):
		p.add(p.part, "reachable", levelOK, "", "%s", u.Host)
		p.failed(p.part, "login", "", err)
	case err != nil:
		p.failed(p.part, "reachable", "start the broker, check host, port and firewall", err)
	default:
		p.add(p.part, "reachable", levelOK, "", "%s, connected in %s", u.Host, time.Since(began).Round(100*time.Microsecond))
		p.add(p.part, "login", levelOK, "", "accepted, %s", p.version())
	}
	return err == nil
}

func (p *patientOf) version() string {
	if p.conn.Version() == client.Version5 {
		return "MQTT 5"
	}
	return "MQTT 3.1.1"
}

func (p *patientOf) connect(ctx context.Context, version byte) (*client.Client, error) {
	s := p.source
	o := client.Options{
		Version: version, ClientID: s.ClientID + "-doctor-" + rand.Text()[:8], CleanStart: true,
		KeepAlive: uint16(s.KeepAlive / time.Second), Receive: p.receive, Hold: true,
	}
	err := o.Properties.Set(client.ForConnect, "receive-maximum", strconv.Itoa(s.ReceiveMaximum))
	if err != nil {
		return nil, err
	}
	return connectSource(ctx, s, p.url, o)
}

func (p *patientOf) receive(m *client.Received) error {
	switch string(m.Topic) {
	case p.topic:
		p.held.Add(1)
		p.last.Store(time.Now().UnixNano())
	case droppedTopic:
		select {
		case p.drops <- string(m.Payload):
		default:
		}
	}
	return nil
}

// subscriptions asks for the filters on a connection of its own, so that their
// messages do not take part in what follows.
func (p *patientOf) subscriptions(ctx context.Context) {
	c, err := p.connect(ctx, p.conn.Version())
	if err != nil {
		p.failed(p.part, "subscription", "", err)
		return
	}
	defer c.Disconnect(0)
	for _, f := range p.source.Subscribe {
		if p.source.Share != "" {
			f = "$share/" + p.source.Share + "-doctor/" + f // a group of its own takes nothing away
		}
		filter := client.Filter{Topic: f, QoS: byte(p.source.QoS)}
		answers, err := c.Subscribe(ctx, []client.Filter{filter}, nil)
		if err == nil {
			err = client.Refused(filter, answers[0])
		}
		switch {
		case err != nil:
			p.failed(p.part, "subscription", "allow the filter in the broker's access rules", err)
		case answers[0].Code < byte(p.source.QoS):
			p.add(p.part, "subscription", levelWarn, "QoS 0 is lost when anything fails; let the broker grant more",
				"filter %s: QoS %d granted, %d asked", f, answers[0].Code, p.source.QoS)
		default:
			p.add(p.part, "subscription", levelOK, "", "filter %s: QoS %d granted", f, answers[0].Code)
		}
	}
}

// window measures how many messages the broker sends without an acknowledgement,
// and the ceiling that follows from it and the commit time of the log.
func (p *patientOf) window(ctx context.Context) {
	const check = "window"
	asked := p.source.ReceiveMaximum
	filter := client.Filter{Topic: p.topic, QoS: 1}
	answers, err := p.conn.Subscribe(ctx, []client.Filter{filter}, nil)
	if err == nil {
		err = client.Refused(filter, answers[0])
	}
	if err == nil {
		err = p.fill(ctx, asked+asked/10+1)
	}
	got := int(p.held.Load())
	if err != nil || got == 0 || answers[0].Code == 0 {
		p.add(p.part, check, levelWarn, "allow mqttetl/doctor/# to be published and subscribed",
			"not measured: %s", oneLine(errors.Join(err, errors.New("no message with QoS 1 came back"))))
		return
	}
	level, advice := levelOK, ""
	if got < asked {
		level, advice = levelWarn, "raise the broker's limit of messages in flight (Mosquitto: max_inflight_messages)"
	}
	p.add(p.part, check, level, advice, "the broker sends %d messages without an acknowledgement; receive_maximum is %d", got, asked)
	if p.commit > 0 {
		links := max(1, p.source.Connections)
		p.add(p.part, "ceiling", levelOK, "", "about %d messages/s: %d in flight on %d connections, one commit of %s for each window",
			int(float64(got*links)/p.commit.Seconds()), got, links, p.commit.Round(10*time.Microsecond))
	}
}

// fill publishes n messages to ourselves and waits until no more arrive.
func (p *patientOf) fill(ctx context.Context, n int) error {
	c, err := p.connect(ctx, p.conn.Version()) // ours is full of what it does not acknowledge
	if err != nil {
		return err
	}
	defer c.Disconnect(0)
	p.last.Store(time.Now().UnixNano())
	for range n {
		if _, err := c.Publish(&client.Message{Topic: p.topic, Payload: []byte("doctor"), QoS: 1}); err != nil {
			return err
		}
	}
	if err := c.Drain(ctx); err != nil {
		return fmt.Errorf("publish to %s: %w", p.topic, err)
	}
	for time.Since(time.Unix(0, p.last.Load())) < quietTime {
		if !backoff.Pause(ctx, quietTime/10) {
			return ctx.Err()
		}
	}
	return nil
}

// droppedTopic is where Mosquitto counts what it has dropped.
const droppedTopic = "$SYS/broker/publish/messages/dropped"

// dropped asks how many messages the broker has dropped.
func (p *patientOf) dropped(ctx context.Context) {
	const check = "broker drops"
	answers, err := p.conn.Subscribe(ctx, []client.Filter{{Topic: droppedTopic}}, nil)
	if err != nil || answers[0].Code >= 0x80 {
		p.add(p.part, check, levelOK, "", "the broker does not tell")
		return
	}
	select {
	case n := <-p.drops:
		if n == "0" {
			p.add(p.part, check, levelOK, "", "none since the broker started")
			return
		}
		p.add(p.part, check, levelWarn, "let the broker queue more (Mosquitto: max_queued_messages 0 and max_queued_bytes)",
			"%s messages since the broker started", n)
	case <-time.After(quietTime):
		p.add(p.part, check, levelOK, "", "the broker does not tell")
	case <-ctx.Done():
	}
}
