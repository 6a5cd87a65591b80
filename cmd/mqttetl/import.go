package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/format"
	"github.com/mqttetl/mqttetl/ingest/importer"
	"github.com/mqttetl/mqttetl/internal/config"
)

// importFlags say how files are read.
type importFlags struct {
	config          string
	format, columns string
	source          string
	resume, dryRun  bool
	quiet           bool
}

func newImport(std streams) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import FILE…",
		Short: "Read exports and recordings of other programs into the log",
		Long: `Import reads files, or standard input as -, into the log; archive and stream get
them from there like live messages. The recorded time is kept. Plain, gzip and
zstd files are told apart by themselves, and so are

  NDJSON   of mqttetl export, mosquitto_sub -F %j and %J
  CSV      of mqttetl export, or with the columns that --columns names

Other lines are read as --format says, in the letters of mosquitto_sub -F:
%I %U (time) %t %p %x %X %q %r %l %m. A line without a time gets the present one.

A line that cannot be read stops nothing: it is written to FILE.rejected with
its number and the reason. How far a file has been read is kept in the log: with
--resume an import that was interrupted, killed even, goes on behind it, and
each line is in the log once.

The log can have one writer: stop the service while importing.

Exit codes: 0 all lines imported, 1 there were rejected lines,
or a file is of no known format, 65 a damaged file or log, 74 the log is in use or a file cannot be read, 78 bad configuration.`,
		Example: `  mqttetl import -c mqttetl.yaml export.ndjson.zst
  mosquitto_sub -t '#' -F %j -W 60 > day.json; mqttetl import day.json
  mqttetl import --format '%I %t %p' recording.txt --dry-run | head
  mqttetl import --columns time=ts,topic=t,payload=value table.csv.gz --resume`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("which file? - is standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := importer.CheckFormat(f.format); err != nil {
				return usageError{fmt.Errorf("--format: %w", err), cmd}
			}
			if f.dryRun {
				return f.try(cmd.Context(), std, args)
			}
			cfg, err := loadConfig(f.config)
			if err != nil {
				return err
			}
			return f.run(cmd.Context(), std, cfg, args)
		},
	}
	configFlag(cmd, &f.config)
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "ndjson, csv, or letters of mosquitto_sub -F (default: by what the file begins with)")
	flags.StringVar(&f.columns, "columns", "", "CSV columns by name: time=ts,topic=t,payload=value")
	flags.StringVar(&f.source, "source", "import", "source of lines that name none")
	flags.BoolVar(&f.resume, "resume", false, "go on where an import of the same file ended")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be read as NDJSON; import nothing")
	flags.BoolVar(&f.quiet, "no-progress", false, "no progress on a terminal")
	return cmd
}

// input is a file to be imported.
type input struct {
	io.ReadCloser
	name     string // what the log knows it by
	rejected string // file for the lines that cannot be read
}

// openInput opens a file, or standard input as -.
func openInput(std streams, path string) (in input, err error) {
	if path == "-" {
		return input{io.NopCloser(std.in), "-", "stdin.rejected"}, nil
	}
	if in.name, err = filepath.Abs(path); err != nil {
		return in, err
	}
	in.rejected = path + ".rejected"
	in.ReadCloser, err = os.Open(path)
	return in, err
}

// each calls do with the importer of every file, and counts over all of them.
func (f *importFlags) each(std streams, paths []string, log importer.Log, dry func(*mqttetl.Record) error, do func(*importer.Importer) error) (total importer.Stats, err error) {
	for _, path := range paths {
		in, err := openInput(std, path)
		if err != nil {
			return total, err
		}
		m, err := importer.New(importer.Config{Name: in.name, In: in, Format: f.format, Columns: f.columns, Source: f.source,
			Rejected: in.rejected, Resume: f.resume, Dry: dry}, log)
		if err == nil {
			err = do(m)
			s := m.Stats()
			total.Imported += s.Imported
			total.Rejected += s.Rejected
			total.Before += s.Before
			if s.Rejected > 0 && dry == nil {
				fmt.Fprintf(std.err, "%s: %d lines rejected, see %s\n", path, s.Rejected, in.rejected)
			}
		}
		if err = errors.Join(err, in.Close()); err != nil {
			return total, err
		}
	}
	return total, nil
}

// importOutcome prints the account of an import that has come to its end.
func importOutcome(std streams, s importer.Stats, took time.Duration) error {
	before := ""
	if s.Before > 0 {
		before = fmt.Sprintf(", read before %d", s.Before)
	}
	fmt.Fprintf(std.err, "imported %d lines, rejected %d%s, in %v (%.0f/s)\n", s.Imported, s.Rejected, before,
		took.Round(time.Millisecond), rate(uint64(s.Imported), took))
	if s.Rejected > 0 {
		return fmt.Errorf("%d lines could not be read", s.Rejected)
	}
	return nil
}

// try prints what would be imported.
func (f *importFlags) try(ctx context.Context, std streams, paths []string) error {
	began := time.Now()
	var enc format.JSON
	var line []byte
	total, err := f.each(std, paths, nil, func(r *mqttetl.Record) error {
		line = enc.Append(line[:0], r)
		_, err := std.out.Write(line)
		return err
	}, func(m *importer.Importer) error { return m.Run(ctx) })
	if err != nil {
		return err
	}
	return importOutcome(std, total, time.Since(began))
}

// run imports with the log open and, beside it, what drains it: an import may be
// larger than the log.
func (f *importFlags) run(ctx context.Context, std streams, cfg *config.Config, paths []string) error {
	alone := *cfg
	alone.Sources = nil
	logger := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p, err := open(&alone, time.Now(), logger, prometheus.NewRegistry())
	if errors.Is(err, mqttetl.ErrLocked) {
		return mqttetl.WithHint(err, "the log can have one writer: stop the service while importing")
	}
	if err != nil {
		return err
	}
	defer p.log.Close()
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // the log outlives what is handed to it
	defer stop()
	actors, running := errgroup.WithContext(running)
	start := func(actor func(context.Context) error) { actors.Go(func() error { return actor(running) }) }
	start(p.log.Run)
	if p.batcher != nil {
		start(p.batcher.Run)
	}
	if p.forwarder != nil {
		start(p.forwarder.Run)
	}
	reading, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(running, func() { cancel(context.Cause(running)) })
	err = f.files(reading, std, p, paths)
	p.archived(reading)
	stop()
	return errors.Join(actors.Wait(), err)
}

// files imports one file after the other and prints the account.
func (f *importFlags) files(ctx context.Context, std streams, p *pipeline, paths []string) error {
	line := newProgressLine(std.err, f.quiet)
	began := time.Now()
	total, err := f.each(std, paths, p.log, nil, func(m *importer.Importer) error {
		if m.Stats().Done {
			fmt.Fprintln(std.err, "imported before; what has been added since follows")
		}
		hide := line.every(func(elapsed time.Duration) string {
			s := m.Stats()
			return fmt.Sprintf("%d lines  %d rejected  %.0f/s", s.Imported, s.Rejected, rate(uint64(s.Imported), elapsed))
		})
		defer hide()
		return m.Run(ctx)
	})
	if err != nil && mqttetl.Hint(err) == "" {
		err = mqttetl.WithHint(err, "with --resume the same command goes on behind what is in the log")
	}
	if err != nil {
		return err
	}
	return importOutcome(std, total, time.Since(began))
}

// archived waits, as long as the archive gets on, until it has everything.
func (p *pipeline) archived(ctx context.Context) {
	if p.batcher == nil {
		return
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, since := mqttetl.Seq(0), time.Now()
	for p.batcher.Stats().Cursor < p.log.Stats().Last && time.Since(since) < 5*time.Second {
		if now := p.batcher.Stats().Cursor; now != last {
			last, since = now, time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
