package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
	"github.com/mqttetl/mqttetl/test/service"
)

const (
	backlogMessages = 10_000_000
	largeLog        = 10 << 30 // bytes of payload
	largePayload    = 64 << 10
)

// fillLog makes a log with a backlog for the archive in dir.
func (b *bench) fillLog(dir string, n, payload int) error {
	b.logf("filling a log with %d messages of %d bytes", n, payload)
	c, err := startRole(b.ctx, "fill", filling{filepath.Join(dir, "log"), n, payload, "archive"})
	if err != nil {
		return err
	}
	defer c.Kill()
	return errors.Join(c.Hear(&received{}), c.Stop())
}

// onBacklog runs do with the program started on a log that was filled before
// and is in no cache, behind a server that delivers so many messages when told.
func (b *bench) onBacklog(filled, payload, deliver int, do func(*trial) error) error {
	dir, done, err := b.newDir()
	if err != nil {
		return err
	}
	defer done()
	if err := errors.Join(b.fillLog(dir, filled, payload), b.syncDisk()); err != nil {
		return err
	}
	t := &trial{bench: b, stage: withArchive, shape: targetShape, n: filled + deliver, dir: dir}
	var addr string
	if t.server, addr, err = b.startServer(serving{Messages: deliver, Payload: t.shape.Payload, Window: t.shape.Window}); err != nil {
		return err
	}
	defer t.server.Kill()
	if err := t.startProgram(addr); err != nil {
		return err
	}
	defer t.program.Kill()
	return do(t)
}

// drain measures how the archive catches up with a log that was filled before.
func (b *bench) drain(r results) error {
	return b.onBacklog(b.scaled(backlogMessages), targetShape.Payload, 0, func(t *trial) error {
		m, err := t.watchDrain()
		if err != nil {
			return fmt.Errorf("%s: %w", draining, err)
		}
		b.note(r, point{draining, targetShape, 0}, m)
		if m, err = t.exportBacklog(); err != nil {
			return fmt.Errorf("%s: %w", exportAll, err)
		}
		b.note(r, toolPoint(exportAll), m)
		return nil
	})
}

// tenths is into how many parts a drain is cut to see whether it slows down.
const tenths = 10

// A reach is how far the archive was at a time.
type reach struct {
	at     time.Time
	cursor int
}

// drainLook is how often a drain is looked at.
const drainLook = 50 * time.Millisecond

// watchDrain follows the archive's cursor to the end of the log.
func (t *trial) watchDrain() (m measurement, err error) {
	memory := instrument.WatchMemory(t.program.Pid())
	var course []reach
	t.program.Look = drainLook
	_, err = t.program.await("at the end of the log", func(s *service.Status) bool {
		course = append(course, reach{time.Now(), int(s.Archive.Cursor)})
		return int(s.Archive.Cursor) == t.n
	})
	m.Peak = float64(memory.End())
	if err != nil {
		return m, err
	}
	spent, err := instrument.ProcessTime(t.program.Pid())
	if err != nil {
		return m, err
	}
	m.Messages = t.n
	m.CPU = spent.Seconds() / float64(t.n)
	m.Rate = float64(t.n) / course[len(course)-1].at.Sub(t.program.Begun()).Seconds()
	m.Tenths = ratesOf(course, t.n)
	return m, errors.Join(t.program.stop(), checkLog(t.dir, t.n), checkArchive(t.dir, t.n))
}

// exportBacklog measures how the archive leaves again as lines, which are counted.
func (t *trial) exportBacklog() (m measurement, err error) {
	cmd := exec.CommandContext(t.ctx, t.binary, "export", "--archive", filepath.Join(t.dir, "telemetry.db"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return m, err
	}
	course := []reach{{time.Now(), 0}}
	if err := cmd.Start(); err != nil {
		return m, err
	}
	memory := instrument.WatchMemory(cmd.Process.Pid)
	lines, piece := 0, make([]byte, 1<<20)
	for err == nil {
		var n int
		n, err = out.Read(piece)
		if n > 0 {
			lines += bytes.Count(piece[:n], []byte("\n"))
			course = append(course, reach{time.Now(), lines})
		}
	}
	m.Peak = float64(memory.End())
	if err := cmd.Wait(); err != nil {
		return m, fmt.Errorf("%w: %s", err, ends(said.String(), 2000))
	}
	if lines != t.n {
		return m, fmt.Errorf("%d lines of %d records", lines, t.n)
	}
	m.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() / float64(t.n)
	m.deliveries(t.n, course[len(course)-1].at.Sub(course[0].at))
	m.Tenths = ratesOf(course, t.n)
	return m, nil
}

// ratesOf is the rate in each tenth of n messages, messages a second.
func ratesOf(course []reach, n int) (rates []float64) {
	last := course[0]
	for _, c := range course[1:] {
		if c.cursor < (len(rates)+1)*n/tenths && c.cursor < n {
			continue
		}
		rates = append(rates, float64(c.cursor-last.cursor)/c.at.Sub(last.at).Seconds())
		last = c
	}
	return rates
}

// startLarge measures how long the program needs from its start to its first PUBACK.
func (b *bench) startLarge(r results) error {
	n := int(largeLog / largePayload * b.scale)
	return b.onBacklog(n, largePayload, 1, func(t *trial) error {
		m, err := t.firstAck()
		if err != nil {
			return fmt.Errorf("%s: %w", starting, err)
		}
		b.logf("%s: %d messages of %d bytes, first PUBACK %.3f s after the start", starting, n, largePayload, m.FirstAck)
		r.add(point{starting, targetShape, 0}, m)
		return nil
	})
}

// firstAck delivers one message as soon as the program has subscribed.
func (t *trial) firstAck() (m measurement, err error) {
	if err := t.server.Hear(&subscribed{}); err != nil {
		return m, err
	}
	sent, err := t.server.deliver()
	if err != nil {
		return m, err
	}
	m.Messages = t.n
	m.FirstAck = time.Unix(0, sent.FirstAck).Sub(t.program.Begun()).Seconds()
	t.program.Kill()
	return m, checkLog(t.dir, t.n)
}
