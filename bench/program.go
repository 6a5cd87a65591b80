package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
	"github.com/mqttetl/mqttetl/test/service"
)

// A program is a running mqttetl.
type program struct {
	*service.Service
	ctx context.Context
}

// startProgram starts mqttetl run with its files in dir. It writes a CPU profile into
// the file that profile names, empty: none.
func startProgram(ctx context.Context, binary, dir, profile string, s service.Settings) (*program, error) {
	s.Name, s.QoS, s.Prefix = "bench", 1, streamPrefix
	svc, err := service.New(binary, dir, s)
	if err != nil {
		return nil, err
	}
	if profile != "" {
		svc.Env = []string{profileVariable + "=" + profile}
	}
	p := &program{svc, ctx}
	return p, p.Start()
}

// failed is an error with what the program said. It ends the program.
func (p *program) failed(err error) error {
	p.Kill()
	return fmt.Errorf("mqttetl: %w: %s", err, ends(strings.TrimSpace(p.Output()), 2000))
}

// ends is the beginning and the end of a long text: what came first is often
// the cause of what came last.
func ends(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most/2] + "\n…\n" + s[len(s)-most/2:]
}

// await waits until ok, and returns when that was. A connection that was lost is an
// error: what it has cost is in no measurement.
func (p *program) await(what string, ok func(*service.Status) bool) (time.Time, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	var lost error
	_, err := p.Await(ctx, what, func(s service.Status) bool {
		if s.Sources[0].Reconnects > 0 {
			lost = fmt.Errorf("the source has lost its connection: %+v", s.Sources[0])
		}
		return lost != nil || ok(&s)
	})
	at := time.Now()
	if err := errors.Join(err, lost); err != nil {
		return at, p.failed(err)
	}
	return at, nil
}

// ready waits until sources are subscribed and stores are open.
func (p *program) ready() error {
	_, err := p.await("ready", func(s *service.Status) bool { return s.Ready })
	return err
}

func (p *program) metrics() (instrument.Metrics, error) {
	page, err := p.Get(p.ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	return instrument.ParseMetrics(page)
}

// acknowledged waits until n messages have been acknowledged.
func (p *program) acknowledged(n int) (time.Time, error) {
	return p.await(fmt.Sprintf("%d acknowledgements", n), func(s *service.Status) bool { return s.Sources[0].Acknowledged >= uint64(n) })
}

// stored waits until n records are in every store.
func (p *program) stored(n int) (time.Time, error) {
	has := func(at *service.Position) bool { return at == nil || at.Cursor >= uint64(n) }
	return p.await(fmt.Sprintf("done with %d records", n), func(s *service.Status) bool {
		return s.Log.Last >= uint64(n) && has(s.Archive) && has(s.NATS)
	})
}

// A use is what a process has used so far.
type use struct {
	cpu     time.Duration
	written int64
	metrics instrument.Metrics
}

func (p *program) use() (u use, err error) {
	if u.cpu, err = instrument.ProcessTime(p.Pid()); err != nil {
		return u, err
	}
	if u.written, err = instrument.WrittenBytes(p.Pid()); err != nil {
		return u, err
	}
	u.metrics, err = p.metrics()
	return u, err
}

// stop ends the program as a service manager does, and waits.
func (p *program) stop() error {
	if _, err := p.Stop(); err != nil {
		return p.failed(fmt.Errorf("stop: %w", err))
	}
	return nil
}

// The metrics of mqttetl that are read.
const (
	mallocsTotal  = "go_memstats_mallocs_total"
	commitSeconds = "mqttetl_log_commit_seconds"
	ackSeconds    = "mqttetl_puback_seconds"
)
