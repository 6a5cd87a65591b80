package main

import (
	"errors"
	"path/filepath"
)

// measureNull runs the null subscriber behind the synthetic server.
func (b *bench) measureNull(s shape, n int) (measurement, error) {
	return b.measureRole(s, n, 0, func(p subscribing) (*child, error) { return startRole(b.ctx, "null", p) })
}

// measureFloor runs the subscriber that only writes and syncs.
func (b *bench) measureFloor(s shape, n int) (measurement, error) { return b.measureFloorAt(s, n, 0) }

// measureFloorAt runs it in open loop, at so many messages a second.
func (b *bench) measureFloorAt(s shape, n, pace int) (m measurement, err error) {
	dir, done, err := b.newDir()
	if err != nil {
		return m, err
	}
	defer done()
	return b.measureRole(s, n, pace, func(p subscribing) (*child, error) {
		size := int64(n) * int64(newFrames(s.Payload, s.version()).size)
		return startRole(b.ctx, "floor", flooring{p, filepath.Join(dir, "file"), size})
	})
}

// measureRole runs a subscriber that is a role behind the synthetic server, which
// sends at a pace, or with 0 as fast as the window allows.
func (b *bench) measureRole(s shape, n, pace int, start func(subscribing) (*child, error)) (m measurement, err error) {
	server, addr, err := b.startServer(serving{n, s.Payload, s.Window, pace})
	if err != nil {
		return m, err
	}
	defer server.Kill()
	client, err := start(subscribing{addr, s.version(), s.Window, n})
	if err != nil {
		return m, err
	}
	defer client.Kill()
	if err := errors.Join(server.Hear(&subscribed{}), client.Hear(&subscribed{}), b.syncDisk()); err != nil {
		return m, err
	}
	var times delivered
	m, err = client.observe(n, func() error {
		times, err = server.deliver()
		return errors.Join(err, client.Hear(&received{}))
	})
	m.deliveredWithin(times.Start, times.End)
	m.Latency = times.Latency
	return m, errors.Join(err, client.Stop(), server.Stop())
}

// deliveredWithin sets the rates of a measurement that has one end only.
func (m *measurement) deliveredWithin(start, end int64) {
	m.Acked = perSecond(m.Messages, start, end)
	m.Rate = m.Acked
}

// startServer starts the synthetic server and returns where it listens.
func (b *bench) startServer(p serving) (*child, string, error) {
	server, err := startRole(b.ctx, "serve", p)
	if err != nil {
		return nil, "", err
	}
	var at listening
	if err := server.Hear(&at); err != nil {
		return nil, "", err
	}
	return server, at.Addr, nil
}

// measureBare runs the bare publisher.
func (b *bench) measureBare(s shape, n int) (m measurement, err error) {
	stream, done := b.newStream()
	defer done()
	c, err := startReady(b.ctx, "bare", publishingBare{b.server.URL(), stream, streamPrefix, n, s.Payload})
	if err != nil {
		return m, err
	}
	defer c.Kill()
	if err := b.syncDisk(); err != nil {
		return m, err
	}
	var times delivered
	m, err = c.observe(n, func() error {
		times, err = c.deliver()
		return err
	})
	if err != nil {
		return m, err
	}
	m.deliveredWithin(times.Start, times.End)
	return m, errors.Join(checkStream(b.ctx, b.js, stream, n), c.Stop())
}
