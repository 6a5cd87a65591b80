package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/bench/instrument"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// What a replay as recorded is measured with, and what with the same instrument
// a program does that only sleeps and writes: the machine's own lateness. Both
// speak the protocol of NATS themselves, since a client library's goroutines wake
// one another, each a little late.

// hearing is what a listener to core NATS is to hear: so many messages,
// numbered from 0, at so many a second.
type hearing struct {
	URL, Prefix    string
	Messages, Rate int
}

// heard is what a listener says at its end.
type heard struct{ Off instrument.Quantiles }

// listen is the role of a subscriber that notes when each message arrives.
func listen(l *link, p hearing) error {
	conn, in, err := dialNATS(p.URL, "SUB "+p.Prefix+".> 1\r\n")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := l.say(subscribed{}); err != nil {
		return err
	}
	arrived := make([]int64, 0, p.Messages)
	for len(arrived) < p.Messages {
		if err := in.fill(); err != nil {
			return fmt.Errorf("after %d of %d messages: %w", len(arrived), p.Messages, err)
		}
		if arrived, err = hear(conn, in, arrived, time.Now().UnixNano()); err != nil {
			return err
		}
	}
	return l.end(heard{deviations(arrived, time.Second/time.Duration(p.Rate))})
}

// hear takes what has been read, at the time now.
func hear(conn io.Writer, in *input, arrived []int64, now int64) ([]int64, error) {
	for {
		line, body, ok, err := natsCommand(in)
		if err != nil || !ok {
			return arrived, err
		}
		if body == nil {
			if line == "PING" {
				_, err = io.WriteString(conn, "PONG\r\n")
			} else if strings.HasPrefix(line, "-ERR") {
				err = errors.New(line)
			}
			if err != nil {
				return arrived, err
			}
			continue
		}
		if i, err := counter(body); err != nil || i != uint64(len(arrived)) {
			return arrived, errors.Join(err, fmt.Errorf("message %d in place of %d", i, len(arrived)))
		}
		arrived = append(arrived, now)
	}
}

// natsCommand takes the next command of a server out of what has been read, and
// the body of a message, without its header. ok is false if it is not whole yet.
func natsCommand(in *input) (line string, body []byte, ok bool, err error) {
	f, size, ok := natsmsg.ReadFrame(in.Bytes())
	if !ok {
		return string(f.Line), nil, false, fmt.Errorf("%q is no command of NATS: %w", f.Line, errMalformed)
	}
	in.Skip(size)
	return string(f.Line), f.Body, size > 0, nil
}

// dialNATS connects, sends commands and waits until the server has read them.
func dialNATS(at, commands string) (net.Conn, *input, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return nil, nil, err
	}
	in := newInput(conn, writeBytes)
	hello := `CONNECT {"verbose":false,"pedantic":false,"headers":true,"protocol":1}` + "\r\n" + commands + "PING\r\n"
	if _, err = io.WriteString(conn, hello); err == nil {
		err = awaitPong(in)
	}
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return conn, in, nil
}

func awaitPong(in *input) error {
	for {
		line, _, ok, err := natsCommand(in)
		switch {
		case err != nil || line == "PONG":
			return err
		case strings.HasPrefix(line, "-ERR"):
			return errors.New(line)
		case !ok:
			if err := in.fill(); err != nil {
				return err
			}
		}
	}
}

// publishingOnTime is what the program that only sleeps and writes is to do.
type publishingOnTime struct {
	publishingCore
	Rate int
}

// beat is its role.
func beat(l *link, p publishingOnTime) error {
	conn, in, err := dialNATS(p.URL, "")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := errors.Join(l.say(subscribed{}), l.awaitGo()); err != nil {
		return err
	}
	runtime.LockOSThread() // the runtime's timers are too coarse
	t := deliveryTimes{Start: time.Now().UnixNano()}
	body := payload(0, p.Payload)
	var out []byte
	var frames natsmsg.Framer
	for i := range p.Messages {
		if d := intended(t.Start, i, p.Rate) - time.Now().UnixNano(); d > 0 {
			pause := unix.NsecToTimespec(d)
			_ = unix.Nanosleep(&pause, nil) // woken early by a signal: sent early
		}
		subject := p.Prefix + "." + strings.ReplaceAll(topic(i%topics), "/", ".")
		out = frames.AppendPub(out[:0], &natsmsg.Message{Subject: subject, Body: body}, "")
		if _, err := conn.Write(out); err != nil {
			return err
		}
		increment(body[:counterDigits])
	}
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return err
	}
	if err := awaitPong(in); err != nil {
		return err
	}
	t.End = time.Now().UnixNano()
	return l.done(t)
}

func pacePoint(s subject) point { return point{s, shape{Payload: targetShape.Payload}, toolPace} }

// pace measures how far from its recorded offset each message of a replay as
// recorded reaches a subscriber, behind the same of a program that only sleeps
// and writes.
func (t *toolbox) pace() error {
	n := min(t.n, t.scaled(int(toolPace*toolPaceTime.Seconds())))
	err := t.onTime(barePace, n, func() (measurement, error) {
		c, err := startReady(t.ctx, "beat", publishingOnTime{publishingCore{t.server.URL(), corePrefix, n, targetShape.Payload}, toolPace})
		if err != nil {
			return measurement{}, err
		}
		defer c.Kill()
		m, err := c.observe(n, func() error {
			_, err := c.deliver()
			return err
		})
		return m, errors.Join(err, c.Stop())
	})
	if err != nil {
		return err
	}
	return t.onTime(replayPace, n, func() (measurement, error) {
		p, err := t.execute(n, nil, t.binary, "replay", "--archive", t.db, "--to", t.server.URL(), "--subject-prefix", corePrefix,
			"--speed", "1", "--limit", fmt.Sprint(n))
		return p.measurement, err
	})
}

// onTime has a listener time what play sends.
func (t *toolbox) onTime(s subject, n int, play func() (measurement, error)) error {
	c, err := startReady(t.ctx, "listen", hearing{t.server.URL(), corePrefix, n, toolPace})
	if err != nil {
		return err
	}
	defer c.Kill()
	m, err := play()
	var h heard
	if err == nil {
		err = c.Hear(&h)
	}
	if err := errors.Join(err, c.Stop()); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	m.Latency = h.Off
	t.r.add(pacePoint(s), m)
	t.logf("%-42s %6d msg/s  p50 %v  p99 %v  max %v off", s, toolPace, m.Latency.P50, m.Latency.P99, m.Latency.Max)
	return nil
}

// offP99 is how far messages are off, in milliseconds.
func offP99(m *measurement) float64 { return m.Latency.P99.Seconds() * 1e3 }

// deviations are how far times are from a grid of that step. The zero of the grid
// is that of the median time: a delay that all have is none.
func deviations(times []int64, step time.Duration) instrument.Quantiles {
	late := make([]int64, len(times))
	for i, at := range times {
		late[i] = at - int64(i)*int64(step)
	}
	sorted := slices.Sorted(slices.Values(late))
	middle := sorted[len(sorted)/2]
	h := instrument.NewLatencies()
	for _, d := range late {
		h.Record(max(d-middle, middle-d))
	}
	return h.Quantiles(true)
}
