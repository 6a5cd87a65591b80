package main

import (
	"errors"
	"fmt"

	"github.com/mqttetl/mqttetl/test/servers"
)

// brokerShape is what goes through Mosquitto: the default receive maximum.
var brokerShape = shape{128, 900}

const (
	brokerMessages  = 200_000
	publisherWindow = 1000
)

// mosquittoConf lets the queue of a subscriber grow, so that nothing is lost.
// The rest is at its defaults.
const mosquittoConf = "max_inflight_messages 1000\nmax_queued_messages 0\nmax_queued_bytes 0"

// atBroker measures one round of what is behind a real broker.
func (b *bench) atBroker(r results) error {
	n := b.scaled(brokerMessages)
	for _, at := range []struct {
		subject subject
		measure func(*servers.Mosquitto, string, int) (measurement, error)
	}{
		{nullAtBroker, b.nullAt},
		{archiveAtBroker, func(m *servers.Mosquitto, dir string, n int) (measurement, error) {
			return b.programAt(m, withArchive, dir, n)
		}},
		{allAtBroker, func(m *servers.Mosquitto, dir string, n int) (measurement, error) {
			return b.programAt(m, everything, dir, n)
		}},
	} {
		m, err := b.withBroker(n, at.measure)
		if err != nil {
			return fmt.Errorf("%s: %w", at.subject, err)
		}
		b.note(r, point{at.subject, brokerShape, 0}, m)
	}
	return nil
}

// withBroker measures behind a new Mosquitto.
func (b *bench) withBroker(n int, measure func(*servers.Mosquitto, string, int) (measurement, error)) (m measurement, err error) {
	dir, done, err := b.newDir()
	if err != nil {
		return m, err
	}
	defer done()
	broker, err := servers.StartMosquitto(dir, mosquittoConf)
	if err != nil {
		return m, err
	}
	defer broker.Kill()
	return measure(broker, dir, n)
}

// startPublisher starts a publisher that waits for the word.
func (b *bench) startPublisher(broker *servers.Mosquitto, n int) (*child, error) {
	return startReady(b.ctx, "publish", publishing{broker.Addr, n, brokerShape.Payload, publisherWindow, 0})
}

// nullAt measures the null subscriber behind the broker.
func (b *bench) nullAt(broker *servers.Mosquitto, _ string, n int) (m measurement, err error) {
	client, err := startReady(b.ctx, "null", subscribing{broker.Addr, 5, brokerShape.Window, n})
	if err != nil {
		return m, err
	}
	defer client.Kill()
	publisher, err := b.startPublisher(broker, n)
	if err != nil {
		return m, err
	}
	defer publisher.Kill()
	var times delivered
	var last received
	m, err = client.observe(n, func() error {
		if times, err = publisher.deliver(); err != nil {
			return err
		}
		return client.Hear(&last)
	})
	m.deliveredWithin(times.Start, last.End)
	return m, errors.Join(err, client.Stop(), publisher.Stop())
}

// programAt measures a stage behind the broker.
func (b *bench) programAt(broker *servers.Mosquitto, st stage, dir string, n int) (m measurement, err error) {
	t := &trial{bench: b, stage: st, shape: brokerShape, n: n, dir: dir, broker: true}
	if st.nats {
		var done func()
		t.stream, done = b.newStream()
		defer done()
	}
	if err := t.startProgram(broker.Addr); err != nil {
		return m, err
	}
	defer t.program.Kill()
	if t.server, err = b.startPublisher(broker, n); err != nil {
		return m, err
	}
	defer t.server.Kill()
	if err := errors.Join(t.program.ready(), b.syncDisk()); err != nil {
		return m, err
	}
	return t.run()
}
