package main

import (
	"bytes"
	"database/sql"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

// What is measured at the rates that people have.
const (
	rateOurs   subject = "mqttetl, log and archive"
	rateScript subject = "twenty lines of Python, a synced SQLite commit a message"
	rateLines  subject = "mosquitto_sub into a file, never synced"
	rateNATS   subject = "nats-server's own MQTT into JetStream, every message synced"
)

// A contender stores what is published, as a process of its own.
type contender struct {
	*bench
	dir     string
	addr    string // where messages are published
	process *service.Process
	said    service.Output
	also    []func() // end what was started for it

	ask    func(*measurement) error // what it knows itself, before its end
	stored func() (int, error)      // how many messages it has stored, after its end
}

// contenders are measured one after the other; start returns when one has subscribed.
var contenders = []struct {
	subject subject
	start   func(*contender) error
}{
	{rateOurs, (*contender).ours},
	{rateScript, (*contender).script},
	{rateLines, (*contender).lines},
	{rateNATS, (*contender).mqttOfNATS},
}

// ours is mqttetl run with log and archive.
func (c *contender) ours() error {
	m, err := c.broker()
	if err != nil {
		return err
	}
	p, err := startProgram(c.ctx, c.binary, c.dir, "", service.Settings{Broker: m.URL, Version: "5", Window: rateShape.Window})
	if err != nil {
		return err
	}
	c.process = p.Process()
	if err := p.ready(); err != nil {
		return err
	}
	before, err := p.metrics()
	c.ask = func(m *measurement) error {
		after, err := p.metrics()
		if err != nil {
			return err
		}
		m.Commits = after.Value(commitSeconds) - before.Value(commitSeconds)
		m.CommitP99 = after.Quantile(0.99, commitSeconds, before)
		m.Ack.P99 = time.Duration(after.Quantile(0.99, ackSeconds, before) * float64(time.Second))
		return nil
	}
	c.stored = func() (int, error) { return c.rows("telemetry.db", "SELECT count(*) FROM messages") }
	return err
}

// scriptText is what somebody writes who has no time.
//
//go:embed rates.py
var scriptText []byte

// debianPython is the one for which python3-paho-mqtt is installed.
const debianPython = "/usr/bin/python3"

func (c *contender) script() error {
	m, err := c.broker()
	if err != nil {
		return err
	}
	path := filepath.Join(c.dir, "rates.py")
	if err := os.WriteFile(path, scriptText, 0o600); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(m.Addr)
	if err != nil {
		return err
	}
	c.stored = func() (int, error) { return c.rows("script.db", "SELECT count(*) FROM messages") }
	if err := c.launch(service.Command(debianPython, path, host, port, filepath.Join(c.dir, "script.db"))); err != nil {
		return err
	}
	return c.subscribed(m)
}

// rows counts the rows of a database.
func (c *contender) rows(file, query string) (n int, err error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(c.dir, file)+"?mode=ro")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	return n, db.QueryRow(query).Scan(&n)
}

func (c *contender) lines() error {
	m, err := c.broker()
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(m.Addr)
	if err != nil {
		return err
	}
	path := filepath.Join(c.dir, "lines")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	c.stored = func() (int, error) {
		text, err := os.ReadFile(path)
		return bytes.Count(text, []byte("\n")), err
	}
	cmd := service.Command("mosquitto_sub", "-h", host, "-p", port, "-i", "lines", "-c", "-q", "1", "-t", topicFilter, "-v")
	cmd.Stdout = out
	if err := c.launch(cmd); err != nil {
		return err
	}
	return c.subscribed(m)
}

// mqttOfNATS is the nats-server of this module: that of a distribution may not
// know sync_interval. The broker's work is in what it costs.
func (c *contender) mqttOfNATS() error {
	binary, err := servers.BuildNATS(c.ctx, c.bench.dir)
	if err != nil {
		return err
	}
	listen, err := servers.FreeAddr()
	if err != nil {
		return err
	}
	if c.addr, err = servers.FreeAddr(); err != nil {
		return err
	}
	path := filepath.Join(c.dir, "nats.conf")
	conf := fmt.Sprintf("server_name: bench\nlisten: %q\nmqtt { listen: %q }\njetstream { store_dir: %q, sync_interval: always }\n",
		listen, c.addr, filepath.Join(c.dir, "store"))
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return err
	}
	if err := c.launch(service.Command(binary, "-c", path)); err != nil {
		return err
	}
	var nc *nats.Conn
	err = c.until("take connections", func() bool {
		if nc == nil {
			nc, _ = nats.Connect("nats://" + listen)
		}
		if nc == nil {
			return false
		}
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	if nc != nil {
		c.also = append(c.also, nc.Close)
	}
	if err != nil {
		return err
	}
	return c.stream(nc)
}

// stream makes the stream that takes what is published, and has it counted.
func (c *contender) stream(nc *nats.Conn) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	s, err := js.CreateStream(c.ctx, jetstream.StreamConfig{Name: "RATES", Subjects: []string{"bench.>"}, Storage: jetstream.FileStorage})
	if err != nil {
		return err
	}
	n := 0
	c.ask = func(*measurement) error {
		info, err := s.Info(c.ctx)
		if err == nil {
			n = int(info.State.Msgs)
		}
		return err
	}
	c.stored = func() (int, error) { return n, nil }
	return nil
}

// broker starts the Mosquitto of a contender, which says who subscribes.
func (c *contender) broker() (*servers.Mosquitto, error) {
	m, err := servers.StartMosquitto(c.dir, mosquittoConf+"\nlog_type subscribe")
	if err != nil {
		return nil, err
	}
	c.addr, c.also = m.Addr, append(c.also, func() { m.Kill() })
	return m, nil
}

// subscribed waits until the broker has the subscription.
func (c *contender) subscribed(m *servers.Mosquitto) error {
	return c.until("subscribe", func() bool {
		log, err := os.ReadFile(m.Log)
		return err == nil && bytes.Contains(log, []byte(topicFilter))
	})
}

// launch starts the process.
func (c *contender) launch(p *service.Process) error {
	if p.Stderr = &c.said; p.Stdout == nil {
		p.Stdout = &c.said
	}
	c.process = p
	return p.Start()
}

// until waits until c has done what it is started for.
func (c *contender) until(what string, done func() bool) error {
	again, late := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-c.process.Done():
			return fmt.Errorf("%s ended, and should %s: %s", c.process.Path, what, c.said.String())
		case <-late:
			return fmt.Errorf("%s does not %s", c.process.Path, what)
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	return nil
}

// end ends the process as a service manager does, and returns what it has
// written in its life, in bytes.
func (c *contender) end() (written int64, err error) {
	c.process.Signal(syscall.SIGTERM)
	select {
	case <-c.process.Done():
	case <-time.After(patience):
		return 0, fmt.Errorf("%s does not end", c.process.Path)
	}
	const block = 512 // in which getrusage(2) counts what proc(5) calls write_bytes
	return c.process.ProcessState.SysUsage().(*syscall.Rusage).Oublock * block, nil
}

// kill ends what is left. It may be called at any time.
func (c *contender) kill() {
	if c.process != nil && c.process.Process != nil {
		c.process.Kill()
	}
	for _, end := range c.also {
		end()
	}
}
