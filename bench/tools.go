package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/bench/instrument"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/test/servers"
)

// What is measured of the commands that read and write what was recorded, and of
// publishing lines. Each runs as its user runs it, as a process from its start to
// its end, right behind what it is compared with.
const (
	exportJSON subject = "mqttetl export --format ndjson"
	sqliteJSON subject = "sqlite3 -json"
	exportCSV  subject = "mqttetl export --format csv"
	sqliteCSV  subject = "sqlite3 -csv"
	replayCore subject = "mqttetl replay --to nats:// --speed max"
	bareCore   subject = "nats.go, Publish and Flush"
	replayPace subject = "mqttetl replay --to nats:// --speed 1"
	barePace   subject = "a program that sleeps and writes"
	importJSON subject = "mqttetl import"
	pubLines   subject = "mqttetl pub -l -q 1"
	mosquitto  subject = "mosquitto_pub -l -q 1"
	exportAll  subject = "mqttetl export of the backlog"
)

const (
	toolRecords = 1_000_000
	// toolPace is the rate of the recording that is played as recorded, and
	// toolPaceTime for how long.
	toolPace     = 10_000
	toolPaceTime = 3 * time.Second
	// toolLines is few: of more mosquitto_pub 2.0.11 loses some now and then,
	// with exit code 0.
	toolLines = 20_000
)

func toolPoint(s subject) point { return point{s, shape{Payload: targetShape.Payload}, 0} }

// tools measures one round of the commands.
func (b *bench) tools(r results) error {
	dir, done, err := b.newDir()
	if err != nil {
		return err
	}
	defer done()
	t := &toolbox{bench: b, r: r, dir: dir, db: filepath.Join(dir, "recorded.db"), n: b.scaled(toolRecords)}
	if err := errors.Join(recordArchive(t.db, t.n), b.syncDisk()); err != nil {
		return err
	}
	for _, step := range []func() error{t.export, t.replays, t.syncDisk, t.paces, t.importing, t.publish} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// How often a replay is measured in a round, at full speed and as recorded: each
// takes half a second and some seconds, and a machine that is not ours alone is
// slower or stands still for as long.
const (
	replaysEach = 5
	pacesEach   = 3
)

func (t *toolbox) replays() error { return repeat(replaysEach, t.replay) }
func (t *toolbox) paces() error   { return repeat(pacesEach, t.pace) }

func repeat(n int, measure func() error) error {
	for range n {
		if err := measure(); err != nil {
			return err
		}
	}
	return nil
}

// recordArchive makes an archive of n messages that came at toolPace.
func recordArchive(path string, n int) error {
	a, err := archive.Open(path, "0123456789abcdef")
	if err != nil {
		return err
	}
	const rows, first = 10_000, 1_700_000_000e9
	next := newMessages(targetShape.Payload)
	var recs []mqttetl.Record
	for i := range n {
		m := next()
		m.Payload = bytes.Clone(m.Payload)
		recs = append(recs, mqttetl.Record{Seq: mqttetl.Seq(i + 1), Time: first + int64(i)*int64(time.Second/toolPace), Source: "bench", Message: m})
		if len(recs) < rows && i < n-1 {
			continue
		}
		if err := errors.Join(a.Append(recs), a.Commit()); err != nil {
			a.Close() // the first error is the one that says why
			return err
		}
		recs = recs[:0]
	}
	return a.Close()
}

// A toolbox is one round of tools, on one recording.
type toolbox struct {
	*bench
	r   results
	dir string
	db  string // the archive
	n   int    // its records
}

// A process is a run of a program.
type process struct {
	measurement
	said string // on standard error
}

// execute runs a program over n messages to its end.
func (t *toolbox) execute(n int, in io.Reader, program string, args ...string) (p process, err error) {
	cmd := exec.CommandContext(t.ctx, program, args...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = in, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return p, err
	}
	memory := instrument.WatchMemory(cmd.Process.Pid)
	err = cmd.Wait()
	p.deliveries(n, time.Since(began))
	p.Peak, p.said = float64(memory.End()), said.String()
	if err != nil {
		return p, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, ends(p.said, 2000))
	}
	p.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() / float64(n)
	return p, nil
}

// deliveries sets the rate of what took so long.
func (m *measurement) deliveries(n int, took time.Duration) {
	m.Messages = n
	m.Rate = float64(n) / took.Seconds()
}

// mqttetl runs a command of mqttetl, whose account must say want.
func (t *toolbox) mqttetl(s subject, n int, in io.Reader, want string, args ...string) error {
	p, err := t.execute(n, in, t.binary, args...)
	if err == nil && !strings.Contains(p.said, want) {
		err = fmt.Errorf("%s: it says %q instead of %q", s, p.said, want)
	}
	if err == nil {
		t.note(t.r, toolPoint(s), p.measurement)
	}
	return err
}

// against runs what a command is compared with.
func (t *toolbox) against(s subject, n int, in io.Reader, program string, args ...string) error {
	p, err := t.execute(n, in, program, args...)
	if err == nil {
		t.note(t.r, toolPoint(s), p.measurement)
	}
	return err
}

// export compares with the sqlite3 command line on the view that is made for it.
func (t *toolbox) export() error {
	for _, c := range []struct {
		theirs, ours subject
		flag, format string
	}{{sqliteJSON, exportJSON, "-json", "ndjson"}, {sqliteCSV, exportCSV, "-csv", "csv"}} {
		if err := t.against(c.theirs, t.n, nil, "sqlite3", "-readonly", c.flag, t.db, "SELECT * FROM msg"); err != nil {
			return err
		}
		if err := t.mqttetl(c.ours, t.n, nil, "", "export", "--archive", t.db, "--format", c.format); err != nil {
			return err
		}
	}
	return nil
}

// replay compares with a program that has the payloads in memory.
func (t *toolbox) replay() error {
	c, err := startReady(t.ctx, "core", publishingCore{t.server.URL(), corePrefix, t.n, targetShape.Payload})
	if err != nil {
		return err
	}
	defer c.Kill()
	var times delivered
	m, err := c.observe(t.n, func() error {
		times, err = c.deliver()
		return err
	})
	if err != nil {
		return err
	}
	m.deliveredWithin(times.Start, times.End)
	t.note(t.r, toolPoint(bareCore), m)
	return errors.Join(c.Stop(), t.mqttetl(replayCore, t.n, nil, fmt.Sprintf("selected %d = sent %[1]d, confirmed %[1]d", t.n),
		"replay", "--archive", t.db, "--to", t.server.URL(), "--subject-prefix", corePrefix, "--speed", "max"))
}

// importing reads an export of the recording into a new log.
func (t *toolbox) importing() error {
	lines, conf := filepath.Join(t.dir, "recorded.ndjson"), filepath.Join(t.dir, "import.yaml")
	text := fmt.Sprintf("sources: [{name: none, url: \"mqtt://127.0.0.1:1\", subscribe: [\"#\"]}]\nlog: {dir: %s}\n", filepath.Join(t.dir, "log"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	if _, err := t.execute(t.n, nil, t.binary, "export", "--archive", t.db, "--out", lines); err != nil {
		return err
	}
	if err := t.syncDisk(); err != nil {
		return err
	}
	err := t.mqttetl(importJSON, t.n, nil, fmt.Sprintf("imported %d lines, rejected 0", t.n), "import", "-c", conf, lines)
	return errors.Join(err, checkLog(t.dir, t.n))
}

// publish compares pub -l with mosquitto_pub -l, through Mosquitto.
func (t *toolbox) publish() error {
	dir, done, err := t.newDir()
	if err != nil {
		return err
	}
	defer done()
	broker, err := servers.StartMosquitto(dir, mosquittoConf)
	if err != nil {
		return err
	}
	defer broker.Kill()
	host, port, err := net.SplitHostPort(broker.Addr)
	if err != nil {
		return err
	}
	n := t.scaled(toolLines)
	var lines strings.Builder
	for i := range n {
		lines.Write(payload(uint64(i), targetShape.Payload))
		lines.WriteByte('\n')
	}
	args := []string{"-h", host, "-p", port, "-t", "bench", "-q", "1", "-l"}
	return errors.Join(
		t.against(mosquitto, n, strings.NewReader(lines.String()), "mosquitto_pub", args...),
		t.mqttetl(pubLines, n, strings.NewReader(lines.String()), "", append([]string{"pub"}, args...)...))
}
