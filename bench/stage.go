package main

import (
	"errors"
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
	"github.com/mqttetl/mqttetl/test/service"
)

// A stage is how much of the pipeline is switched on.
type stage struct {
	name    string
	archive bool
	nats    bool
}

var (
	logOnly     = stage{name: "log"}
	withArchive = stage{name: "log + archive", archive: true}
	withStream  = stage{name: "log + JetStream", nats: true}
	everything  = stage{name: "all", archive: true, nats: true}
)

// A shape is what the messages of a measurement are like.
type shape struct {
	Payload int // bytes
	Window  int // messages in flight
}

// version is the version of MQTT that a shape is measured with: a window of 20
// is what MQTT 3.1.1 gets from a broker.
func (s shape) version() byte {
	if s.Window <= window311 {
		return 4
	}
	return 5
}

// mqtt is the version as a configuration names it.
func (s shape) mqtt() string {
	if s.version() == 5 {
		return "5"
	}
	return "3.1.1"
}

// A measurement is what one run of one stage has shown. All is per message but
// for what says otherwise.
type measurement struct {
	Messages  int
	Acked     float64 // messages a second, first PUBLISH to last PUBACK
	Rate      float64 // messages a second, first PUBLISH to the last record in the last store
	CPU       float64 // seconds, user and system
	Allocs    float64
	Written   float64 // bytes
	Peak      float64 // RssAnon, bytes in all
	Commits   float64 // of the log
	CommitP50 float64 // seconds, of log transactions
	CommitP99 float64
	Ack       instrument.Quantiles // from reading a message to writing its PUBACK, as the program counts it
	FirstAck  float64              // seconds from the start of the program to its first PUBACK
	Tenths    []float64            // messages a second in each tenth of a backlog
	RowBytes  float64              // of the archive's file, less the payload
	Drain     float64              // seconds from the last PUBACK until the last store had everything

	// In open loop, from when a message was to be sent until
	Latency instrument.Quantiles // its PUBACK was read
	Row     instrument.Quantiles // its row could be read from the archive
	Stream  instrument.Quantiles // a consumer of the stream had it
}

func perSecond(n int, from, to int64) float64 {
	return float64(n) / time.Duration(to-from).Seconds()
}

// A trial is one run of mqttetl behind the synthetic server, from its start to
// the proof that every store has every message.
type trial struct {
	*bench
	stage  stage
	shape  shape
	n      int
	rate   int    // open loop; 0: as fast as the window allows
	routes string // a section of the configuration
	dir    string
	stream string
	broker bool // a real broker is between: the sender's PUBACKs are not ours

	server  *child // what sends: the synthetic server, or a publisher to the broker
	program *program
	before  use

	// during runs from before the first message until the stores are complete.
	during func(t *trial, stop <-chan struct{}) error
	// after adds to the measurement; start is when the first message was to be sent.
	after func(m *measurement, start int64)
}

// measure runs a stage.
func (b *bench) measure(st stage, s shape, n int) (measurement, error) {
	return b.try(&trial{stage: st, shape: s, n: n})
}

// try runs t and cleans up behind it.
func (b *bench) try(t *trial) (m measurement, err error) {
	t.bench = b
	dir, done, err := b.newDir()
	if err != nil {
		return m, err
	}
	defer done()
	t.dir = dir
	if t.stage.nats {
		var done func()
		t.stream, done = b.newStream()
		defer done()
	}
	if err := t.start(); err != nil {
		return m, err
	}
	defer t.server.Kill()
	defer t.program.Kill()
	return t.run()
}

// start starts server and program and waits until they are connected.
func (t *trial) start() error {
	var addr string
	var err error
	t.server, addr, err = t.startServer(serving{t.n, t.shape.Payload, t.shape.Window, t.rate})
	if err != nil {
		return err
	}
	if err := t.startProgram(addr); err != nil {
		t.server.Kill()
		return err
	}
	err = errors.Join(t.server.Hear(&subscribed{}), t.program.ready(), t.syncDisk())
	if err != nil {
		t.server.Kill()
		t.program.Kill()
	}
	return err
}

// startProgram starts mqttetl behind what listens at addr.
func (t *trial) startProgram(addr string) (err error) {
	s := service.Settings{
		Broker: "mqtt://" + addr, Version: t.shape.mqtt(), Window: t.shape.Window,
		NoArchive: !t.stage.archive, Stream: t.stream, Routes: t.routes,
	}
	if t.stage.nats {
		s.NATS = t.bench.server.URL()
	}
	t.program, err = startProgram(t.ctx, t.binary, t.dir, t.profilePath(), s)
	return err
}

// run delivers, waits for the stores, and then counts them.
func (t *trial) run() (m measurement, err error) {
	if t.before, err = t.program.use(); err != nil {
		return m, err
	}
	memory := instrument.WatchMemory(t.program.Pid())
	d, err := t.deliver()
	m.Peak = float64(memory.End())
	if err != nil {
		return m, err
	}
	after, err := t.program.use()
	if err != nil {
		return m, err
	}
	after.cpu = d.cpu
	t.fill(&m, after)
	m.Latency = d.sent.Latency
	m.Acked = perSecond(t.n, d.sent.Start, d.acked)
	m.Rate = perSecond(t.n, d.sent.Start, d.stored)
	if t.after != nil {
		t.after(&m, d.sent.Start)
	}
	m.Drain = time.Duration(d.stored - d.acked).Seconds()
	return m, t.check(&m)
}

// A course is how a trial went: times in Unix nanoseconds.
type course struct {
	sent          delivered
	acked, stored int64
	cpu           time.Duration // the program's at the end
}

// deliver has the server deliver, and returns when all stores have everything.
func (t *trial) deliver() (c course, err error) {
	stop, watched := make(chan struct{}), make(chan error, 1)
	go func() {
		if t.during == nil {
			watched <- nil
			return
		}
		watched <- t.during(t, stop)
	}()
	endProfile := t.beginProfile()
	if c.sent, err = t.server.deliver(); err == nil {
		err = t.complete(&c)
	}
	close(stop)
	return c, errors.Join(err, endProfile(), <-watched)
}

// complete waits until the program has acknowledged and stored everything.
func (t *trial) complete(c *course) error {
	c.acked = c.sent.End
	if t.broker {
		at, err := t.program.acknowledged(t.n)
		if err != nil {
			return err
		}
		c.acked = at.UnixNano()
	}
	c.stored = c.acked
	if t.stage.archive || t.stage.nats {
		at, err := t.program.stored(t.n)
		if err != nil {
			return err
		}
		c.stored = max(c.acked, at.UnixNano())
	}
	var err error
	c.cpu, err = instrument.ProcessTime(t.program.Pid())
	return err
}

// fill sets what the program's own counters tell.
func (t *trial) fill(m *measurement, after use) {
	n := float64(t.n)
	m.Messages = t.n
	m.CPU = (after.cpu - t.before.cpu).Seconds() / n
	m.Written = float64(after.written-t.before.written) / n
	m.Allocs = (after.metrics.Value(mallocsTotal) - t.before.metrics.Value(mallocsTotal)) / n
	m.CommitP50 = after.metrics.Quantile(0.50, commitSeconds, t.before.metrics)
	m.CommitP99 = after.metrics.Quantile(0.99, commitSeconds, t.before.metrics)
	ack := func(q float64) time.Duration {
		return time.Duration(after.metrics.Quantile(q, ackSeconds, t.before.metrics) * float64(time.Second))
	}
	m.Ack = instrument.Quantiles{P50: ack(0.5), P99: ack(0.99), P999: ack(0.999)}
}

// check counts every message in every store.
func (t *trial) check(m *measurement) error {
	// A PUBACK can be read here before it is counted there.
	_, err := t.program.acknowledged(t.n)
	if err == nil {
		err = t.checkSource()
	}
	if err == nil {
		err = t.program.stop()
	}
	if err == nil {
		err = checkLog(t.dir, t.n)
	}
	if err == nil && t.stage.nats {
		err = checkStream(t.ctx, t.js, t.stream, t.n)
	}
	if err == nil && t.stage.archive {
		err = t.checkArchive(m)
	}
	return errors.Join(err, t.server.Stop())
}

func (t *trial) checkArchive(m *measurement) error {
	if err := checkArchive(t.dir, t.n); err != nil {
		return err
	}
	size, err := archiveSize(t.dir)
	m.RowBytes = float64(size)/float64(t.n) - float64(max(t.shape.Payload, counterDigits))
	return err
}
