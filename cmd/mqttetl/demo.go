//go:build !small

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/internal/simulate"
)

// demoFlags are what the demo can be told.
type demoFlags struct {
	duration   time.Duration
	devices    int
	rate       int
	dir        string
	noProgress bool
	logs       logFlags
}

func newDemo(std streams) *cobra.Command {
	f := demoFlags{logs: logFlags{level: slog.LevelWarn}}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run everything at once, with simulated devices, and account for every message",
		Long: `Demo starts an MQTT broker and a NATS JetStream server inside the process, on
free ports of the loopback interface, lets simulated devices publish over TCP,
and runs the same pipeline as run between them. At Ctrl-C or after --duration
the devices stop, the pipeline drains, and the demo counts: every published message
must be acknowledged, archived and forwarded, once. If one is not, the demo exits 1.
It also keeps what other clients publish to the broker meanwhile, and counts that
separately.`,
		Example: `  mqttetl demo
  mqttetl demo --duration 10s
  mqttetl demo --devices 1000 --rate 5000 --dir ./demo`,
		Args: noArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.duration < 0:
				return usageError{fmt.Errorf("--duration must not be negative, it is %v", f.duration), cmd}
			case f.devices < 1:
				return usageError{fmt.Errorf("--devices must be at least 1, not %d", f.devices), cmd}
			case f.rate < 1:
				return usageError{fmt.Errorf("--rate must be at least 1, not %d", f.rate), cmd}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.logs.mark(demoHint(runDemo(cmd.Context(), f, std)))
		},
	}
	cmd.Flags().DurationVar(&f.duration, "duration", 0, "how long the devices publish (default: until Ctrl-C)")
	cmd.Flags().IntVar(&f.devices, "devices", 300, "simulated devices")
	cmd.Flags().IntVar(&f.rate, "rate", 1000, "messages a second of all devices together")
	cmd.Flags().StringVar(&f.dir, "dir", "", "directory for log, archive and stream, kept afterwards (default: a temporary one, removed)")
	cmd.Flags().BoolVar(&f.noProgress, "no-progress", false, "no line that changes: only what runs where, and the result")
	f.logs.add(cmd)
	return cmd
}

const (
	demoClient  = "mqttetl-demo" // as which the pipeline subscribes
	demoArchive = "telemetry.db"
)

// demoWindow is how many messages the devices have on their way at once: fewer
// than the broker inside the process may queue for one subscriber before it
// drops one.
const demoWindow = 800

// demo is the servers and the pipeline between them.
type demo struct {
	cfg      *config.Config
	broker   *embedded.Mochi
	others   *embedded.Strangers
	nats     *embedded.NATS
	registry *prometheus.Registry
	logger   *slog.Logger
	pipeline *pipeline.Pipeline
	address  string // of http
	stop     context.CancelFunc
	ended    chan error // what the pipeline returned
}

// demoHint says of errors that a demo alone can have what it can do.
func demoHint(err error) error {
	var network net.Error
	switch {
	case errors.Is(err, mqttetl.ErrLocked):
		return mqttetl.WithHint(err, "another demo uses this --dir; stop it, or name another directory")
	case errors.Is(err, syscall.EMFILE), errors.As(err, &network) && network.Timeout():
		return mqttetl.WithHint(err, "this machine does not serve so many devices at once: fewer --devices, or a higher limit of open files (ulimit -n)")
	}
	return err
}

func runDemo(ctx context.Context, f demoFlags, std streams) (err error) {
	broken := make(chan os.Signal, 1) // a pipe whose reader has gone is an error of the write, so that all is put away
	signal.Notify(broken, syscall.SIGPIPE)
	defer signal.Stop(broken)
	dir := f.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "mqttetl-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if err := makeDemoDir(dir); err != nil {
		return mqttetl.WithHint(err, "--dir must be a directory that this user may write, and so must what a demo has left there")
	}
	d, err := startDemo(dir, f.logs.logger(std.err))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.await(ctx, 10*time.Second, func() bool { return len(d.pipeline.NotReady()) == 0 }); err != nil {
		return fmt.Errorf("the pipeline does not get ready: %w", err)
	}
	before, err := d.count()
	if err != nil {
		return err
	}
	out := display{w: bare(std.err), live: !f.noProgress && isTerminal(std.err)}
	out.intro(d, dir, f)
	result, err := d.publish(ctx, f, &out)
	if err != nil {
		return err
	}
	after, err := d.count()
	if err != nil {
		return err
	}
	result.archived, result.forwarded = after.archived-before.archived-result.others, after.forwarded-before.forwarded-result.others
	return errors.Join(result.err(), printResult(std.out, result, d, f.dir))
}

// makeDemoDir makes dir, and sees to it that everything in it can be written:
// the parts would try again and again.
func makeDemoDir(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, sub := range []string{"", "log", "jetstream"} {
		f, err := os.CreateTemp(filepath.Join(dir, sub), ".mqttetl-demo-*")
		if errors.Is(err, fs.ErrNotExist) {
			continue // of a new demo
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, demoArchive), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// startDemo starts the servers and the pipeline in dir.
func startDemo(dir string, logger *slog.Logger) (d *demo, err error) {
	d = &demo{ended: make(chan error, 1), logger: logger}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.broker, err = embedded.StartMochi(""); err != nil {
		return d, err
	}
	if d.others, err = d.broker.Strangers(demoClient, simulate.CrowdID); err != nil {
		return d, err
	}
	if d.nats, err = embedded.StartNATS(filepath.Join(dir, "jetstream")); err != nil {
		return d, err
	}
	d.cfg = d.config(dir)
	started := time.Now()
	d.registry = newRegistry(started)
	listener, err := listen(d.cfg.HTTP.Listen)
	if err != nil {
		return d, err
	}
	d.address = listener.Addr().String()
	if d.pipeline, err = openService(d.cfg, started, logger, d.registry, listener); err != nil {
		return d, errors.Join(err, listener.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	go func() { d.ended <- d.pipeline.Run(ctx) }()
	return d, nil
}

// config is what a user would write for these servers; with an absolute path,
// so that the commands that are shown work from anywhere.
func (d *demo) config(dir string) *config.Config {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	return &config.Config{
		Sources: []config.Source{{
			Name: "demo", URL: d.broker.URL, Version: "5", ClientID: demoClient, Subscribe: []string{"#"}, QoS: 1,
			Connections: 1, ReceiveMaximum: 900, KeepAlive: 30 * time.Second, Retained: "new",
		}},
		Log:     config.Log{Dir: filepath.Join(dir, "log"), MaxSize: 1 << 30, CommitInterval: config.DefaultCommitInterval},
		Archive: &config.Archive{Path: filepath.Join(dir, demoArchive), Batch: config.Batch{Count: 10000, Period: 250 * time.Millisecond}},
		NATS:    &config.NATS{URL: d.nats.URL(), Stream: "TELEMETRY", SubjectPrefix: "mqtt"},
		HTTP:    &config.HTTP{Listen: "127.0.0.1:0"},
	}
}

// publish lets the devices publish for a time and waits until what they sent
// is everywhere.
func (d *demo) publish(ctx context.Context, f demoFlags, out *display) (account, error) {
	if f.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}
	devices := &simulate.Crowd{
		Broker: d.broker.Addr, Devices: f.devices, Rate: f.rate, Window: demoWindow,
		Acknowledged: d.acknowledged,
	}
	published := make(chan error, 1)
	go func() { published <- devices.Run(ctx) }()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			out.tick(d)
		case err := <-d.ended:
			d.ended <- nil
			return account{}, fmt.Errorf("the pipeline ended: %w", err)
		case err := <-published:
			if err != nil {
				return account{}, err
			}
			out.draining()
			return d.drained(devices.Published.Load()), nil
		}
	}
}

// drainTime is how long the consumers may take to catch up at the end.
const drainTime = 30 * time.Second

// drained waits until all messages are everywhere, or the time is over; the
// account tells which.
func (d *demo) drained(published uint64) account {
	d.others.Refuse()
	before := ^uint64(0)
	done := func() bool {
		s := d.pipeline.Status()
		others, _ := d.others.Sent()
		quiet := others == before
		before = others
		return quiet && d.acknowledged() >= published && s.Sources[0].Received >= published+others && s.Archive.Lag == 0 && s.NATS.Lag == 0
	}
	if err := d.await(context.Background(), drainTime, done); err != nil {
		d.logger.Warn("the pipeline has not drained", "error", err)
	}
	others, _ := d.others.Sent()
	return account{published: published, acknowledged: d.acknowledged(), others: others}
}

// acknowledged is how many messages of the devices have been acknowledged to the
// broker.
func (d *demo) acknowledged() uint64 {
	_, others := d.others.Sent()
	all := d.pipeline.Status().Sources[0].Acknowledged
	return all - min(all, others)
}

// await waits until cond holds or ctx ends.
func (d *demo) await(ctx context.Context, limit time.Duration, cond func() bool) error {
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%w after %v", mqttetl.ErrUnavailable, limit)
		}
		if !backoff.Pause(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

func (d *demo) count() (holdings, error) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return countHoldings(ctx, d.cfg.Archive.Path, d.cfg.NATS.URL, d.cfg.NATS.Stream)
}

// close stops what has been started, the pipeline first.
func (d *demo) close() (err error) {
	if d.stop != nil {
		d.stop()
		err = <-d.ended
	}
	if d.nats != nil {
		d.nats.Stop()
	}
	if d.broker != nil {
		err = errors.Join(err, d.broker.Close())
	}
	return err
}
