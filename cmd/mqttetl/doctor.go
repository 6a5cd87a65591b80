package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
)

func newDoctor(std streams) *cobra.Command {
	var path string
	var format outputFormat
	var probe bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Connect to everything in a configuration and say what is wrong",
		Long: `Doctor connects to each broker and to NATS as run would, with a client id of its
own, measures the disk, and checks what else decides whether messages can be lost. It
publishes nothing, and changes nothing except that it writes a file of a megabyte next
to the log for a moment. It may run while the service runs. Run it as the user of the
service, who must be able to read and write the same files.

With --probe it also measures the window that each broker really grants and
how many messages a second go through it. For that it publishes a tenth more
messages than receive_maximum, and then 5,000, to mqttetl/doctor/… on each broker:
whoever subscribes to # gets them, and a running service with such a filter
records them.

Exit codes: 0 no failure (there may be warnings), 1 a failure, 78 bad
configuration.`,
		Example: `  mqttetl doctor -c mqttetl.yaml
  mqttetl doctor -c mqttetl.yaml --probe
  mqttetl doctor -c mqttetl.yaml -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(path)
			if err != nil {
				return err
			}
			d := &doctor{cfg: cfg, probe: probe}
			d.examine(cmd.Context(), path)
			if err := format.write(std.out, d.report()); err != nil {
				return err
			}
			if err := cmd.Context().Err(); err != nil {
				return err // what was found so far has been said
			}
			if n := d.count(levelFail); n > 0 {
				return fmt.Errorf("%d of %d checks failed", n, len(d.findings))
			}
			return nil
		},
	}
	configFlag(cmd, &path)
	outputFlag(cmd, &format)
	cmd.Flags().BoolVar(&probe, "probe", false, "measure each broker's window and rate with messages to mqttetl/doctor/…")
	return cmd
}

// How bad a finding is.
const (
	levelOK   = "ok"
	levelWarn = "warn"
	levelFail = "fail"
)

// A finding is the result of one check.
type finding struct {
	Part   string `json:"part"` // "source <name>", "disk", "nats", …
	Check  string `json:"check"`
	Level  string `json:"level"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"`
}

// doctor collects findings.
type doctor struct {
	cfg      *config.Config
	probe    bool // may publish
	findings []finding
	commit   time.Duration // median commit of the log's disk; 0: not measured
}

func (d *doctor) add(part, check, level, advice, format string, args ...any) {
	d.findings = append(d.findings, finding{part, check, level, fmt.Sprintf(format, args...), advice})
}

// failed adds an error, with its own hint if it has one. An interruption is none.
func (d *doctor) failed(part, check, advice string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	switch hint := mqttetl.Hint(err); {
	case hint != "":
		advice = hint
	case errors.Is(err, fs.ErrPermission):
		advice = "run doctor as the user of the service; if it is, give this user the permission"
	case errors.Is(err, fs.ErrNotExist) && advice == "":
		advice = "create it, or name another one in the configuration"
	}
	d.add(part, check, levelFail, advice, "%s", oneLine(err))
}

func (d *doctor) count(level string) (n int) {
	for _, f := range d.findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// examine makes all checks, the disk first: the ceiling needs its commit time.
func (d *doctor) examine(ctx context.Context, path string) {
	d.disk()
	d.clock()
	for i := range d.cfg.Sources {
		if ctx.Err() == nil {
			d.source(ctx, &d.cfg.Sources[i])
		}
	}
	if d.cfg.NATS != nil && ctx.Err() == nil {
		d.nats(ctx, d.cfg.NATS)
	}
	d.secrets(path)
}

func (d *doctor) report() report {
	r := report{
		document: map[string]any{
			"ok": d.count(levelFail) == 0, "warnings": d.count(levelWarn), "failures": d.count(levelFail), "checks": d.findings,
		},
		header: []string{"level", "part", "check", "result", "what to do"},
	}
	for _, f := range d.findings {
		r.rows = append(r.rows, []string{f.Level, f.Part, f.Check, f.Text, f.Advice})
	}
	return r
}
