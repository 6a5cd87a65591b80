package compare

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// world is a run: its servers and what has been measured so far.
type world struct {
	cfg    Config
	report *Report
	run    string
	dir    string
	owner  owner
	up     map[string]*host // by Server.ID
	tag    uint16           // of the latest trial
	now    Progress

	// Latencies of all rounds of a case.
	endToEnd, confirms map[*Case]instrument.Latencies
}

// Run compares. What fails is in the report, in the case that it concerns; the
// error is that of a run that cannot begin, such as with a given server that
// cannot be reached (mqttetl.ErrUnavailable) or refuses the login
// (*client.Refusal, nats.ErrAuthorization). When ctx ends the round ends, and
// the report has what is complete.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	w := &world{cfg: cfg, run: strings.ToLower(rand.Text()[:8]), up: map[string]*host{},
		endToEnd: map[*Case]instrument.Latencies{}, confirms: map[*Case]instrument.Latencies{}}
	w.owner = newOwner(w.run)
	if cfg.MQTT != "" {
		w.owner.MQTT, w.owner.TLS = cfg.MQTT, cfg.MQTTTLS
	}
	w.report = &Report{
		Schema: Schema, Version: cfg.Version, Run: w.run, Started: time.Now(), Command: cfg.Command,
		Rounds: cfg.Rounds, Duration: cfg.Duration, Servers: []Server{}, Notes: []string{},
	}
	base := cfg.base()
	w.removeDirs(ctx, base)
	if err := w.makeDir(base); err != nil {
		return nil, fmt.Errorf("a directory for the servers: %w", err)
	}
	defer os.RemoveAll(w.dir)
	w.report.Machine = instrument.Inspect(w.dir)
	if w.report.Machine.InMemory {
		w.note("%s is in memory: nothing that is synced there is on a disk (--dir)", base)
	}
	cases := cfg.plan()
	if err := w.startHosts(ctx, cases); err != nil {
		return nil, errors.Join(err, w.stopHosts())
	}
	w.rounds(ctx, cases)
	w.finish(ctx, cases)
	return w.report, nil
}

// base is the directory below which servers keep their files: on a disk, if
// there is a choice.
func (c *Config) base() string {
	if c.Dir != "" {
		return c.Dir
	}
	if _, memory := instrument.FileSystem(os.TempDir()); memory {
		return "/var/tmp"
	}
	return os.TempDir()
}

// note adds a sentence to the report.
func (w *world) note(format string, args ...any) {
	w.report.Notes = append(w.report.Notes, fmt.Sprintf(format, args...))
}

// startHosts starts every server that a case needs. A case whose server cannot
// be started has its error; a given one that does not let us in is an error.
func (w *world) startHosts(ctx context.Context, cases []*Case) error {
	failed := map[string]error{}
	for _, c := range cases {
		for _, id := range c.Servers {
			if w.up[id] == nil && failed[id] == nil {
				h, err := w.startHost(ctx, id)
				switch {
				case err != nil && ctx.Err() == nil && (id == hostMQTT && w.cfg.MQTT != "" || id == hostNATS && w.cfg.NATS != ""):
					return err
				case err != nil:
					failed[id] = err
				default:
					w.up[id] = h
				}
			}
			if err := failed[id]; err != nil && c.Error == "" {
				c.Error = oneLine(err)
			}
		}
		c.Durability = w.durability(c)
		c.Name += ": " + c.Durability.Text
	}
	return nil
}

// stopHosts stops what startHosts has started.
func (w *world) stopHosts() (err error) {
	for _, h := range w.up {
		err = errors.Join(err, h.end())
	}
	return err
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// rounds measures all cases, one after the other, again and again. A case that
// has failed is not tried again.
func (w *world) rounds(ctx context.Context, cases []*Case) {
	for round := 1; round <= w.cfg.Rounds; round++ {
		for i, c := range cases {
			if ctx.Err() != nil {
				return
			}
			w.now = Progress{Round: round, Rounds: w.cfg.Rounds, Case: i + 1, Cases: len(cases), Name: c.Name}
			if c.Error != "" {
				continue
			}
			t := w.newTrial(ctx, c)
			r, err := t.do(round)
			if ctx.Err() != nil {
				return // what came of it is no one's fault
			}
			if err != nil {
				c.Error = oneLine(err)
				continue
			}
			c.Rounds = append(c.Rounds, r)
			merge(w.endToEnd, c, t.latencies.merged())
			merge(w.confirms, c, t.confirm.merged())
		}
	}
}

// merge adds the latencies of a round.
func merge(all map[*Case]instrument.Latencies, c *Case, h instrument.Latencies) {
	if all[c].Histogram == nil {
		all[c] = h
	} else {
		all[c].Merge(h.Histogram)
	}
}

func (w *world) hostsOf(c *Case) (hosts []*host) {
	for _, id := range c.Servers {
		if h := w.up[id]; h != nil {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

func (t *trial) hosts() []*host { return t.hostsOf(t.c) }

// show tells how far the run has come.
func (t *trial) show() {
	if t.cfg.Progress != nil {
		t.now.Sent, t.now.Delivered = t.sent(), t.delivered()
		t.cfg.Progress(t.now)
	}
}

// finish reads the last counters, stops the servers and does the sums.
func (w *world) finish(ctx context.Context, cases []*Case) {
	for _, id := range []string{hostMQTT, hostPipeline, hostNATS, hostAlways, hostNullMQTT, hostNullNATS} {
		h := w.up[id]
		if h == nil {
			continue
		}
		if err := h.completeRound(context.WithoutCancel(ctx)); err != nil && ctx.Err() == nil {
			w.note("the last counters of %s cannot be read: %v", h.Kind, err)
		}
		if err := h.end(); err != nil && ctx.Err() == nil {
			w.note("%s did not end well: %v", h.Kind, err)
		}
		w.report.Servers = append(w.report.Servers, h.Server)
	}
	w.report.Interrupted = ctx.Err() != nil
	w.report.Machine.LoadAfter = instrument.LoadAverages()
	w.report.Took = time.Since(w.report.Started)
	w.summarize(cases)
}

// Err is an error if a case could not be measured, or the run was interrupted.
// Loss is none: it is a result.
func (r *Report) Err() error {
	var failed []error
	for _, c := range r.Cases {
		if c.Error != "" {
			failed = append(failed, fmt.Errorf("%s: %s", c.ID, c.Error))
		}
	}
	if r.Interrupted {
		failed = append(failed, context.Canceled)
	}
	return errors.Join(failed...)
}

// spareFiles is how many files are open beside those of the clients.
const spareFiles = 32

// enoughFiles says why a trial cannot have so many connections, before the
// system does it in the middle.
func (t *trial) enoughFiles() error {
	need := uint64(t.c.Publishers + t.c.Subscribers + spareFiles)
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur >= need {
		return nil
	}
	return fmt.Errorf("%d clients need %d open files, the limit is %d (ulimit -n)", t.c.Publishers+t.c.Subscribers, need, l.Cur)
}

// mosquittoPub finds mosquitto_pub, "" if it is not installed.
func mosquittoPub() string {
	path, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		return ""
	}
	path, _ = filepath.Abs(path)
	return path
}
