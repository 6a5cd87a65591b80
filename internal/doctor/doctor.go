// Package doctor connects to everything that a configuration names and says what
// is wrong. It changes nothing except that it writes a file of a megabyte next to
// the log for a moment; with a probe it publishes to mqttetl/doctor/….
package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/visible"
)

// How bad a finding is.
const (
	OK   = "ok"
	Warn = "warn"
	Fail = "fail"
)

// A Finding is the result of one check.
type Finding struct {
	Part   string `json:"part"` // "source <name>", "disk", "nats", …
	Check  string `json:"check"`
	Level  string `json:"level"`
	Text   string `json:"text"`
	Advice string `json:"advice,omitempty"`
}

// Options are what an examination is told beside the configuration.
type Options struct {
	Path    string                                       // of the file of the configuration
	Probe   bool                                         // may publish
	Metrics func(context.Context) (io.ReadCloser, error) // of the running service; nil: it has none
}

// doctor collects findings.
type doctor struct {
	Options
	cfg      *config.Config
	findings []Finding
	commit   time.Duration // median commit of the log's disk; 0: not measured
}

// Examine makes all checks, or those before ctx ends, and returns what was found.
func Examine(ctx context.Context, cfg *config.Config, o Options) []Finding {
	d := &doctor{Options: o, cfg: cfg}
	before := d.service(ctx)
	d.disk() // before the others: the ceiling needs its commit time
	d.clock()
	d.writes(ctx, before) // before a probe
	for i := range cfg.Sources {
		if ctx.Err() == nil {
			d.source(ctx, &cfg.Sources[i])
		}
	}
	if cfg.NATS != nil && ctx.Err() == nil {
		d.nats(ctx, cfg.NATS)
	}
	d.secrets(o.Path)
	return d.findings
}

func (d *doctor) add(part, check, level, advice, text string, args ...any) {
	d.findings = append(d.findings, Finding{part, check, level, fmt.Sprintf(text, args...), advice})
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
	d.add(part, check, Fail, advice, "%s", visible.OneLine(err))
}

// Count is how many of the findings have a level.
func Count(all []Finding, level string) (n int) {
	for _, f := range all {
		if f.Level == level {
			n++
		}
	}
	return n
}
