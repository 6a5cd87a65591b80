package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/export"
	"github.com/mqttetl/mqttetl/ingest/importer"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/pipeline"
)

// importFlags say how files are read.
type importFlags struct {
	config          string
	format, columns string
	header          string
	separator       string
	topic           string
	source          string
	timezone        string
	timeFormat      string
	rejected        string
	resume, dryRun  bool
	quiet           bool
	zoned           bool // --timezone was given
}

const importHelp = `Import reads files, or standard input as -, into the log; archive and stream get
them from there like live messages. It keeps the recorded time. It recognises plain,
gzip and zstd files, and

  JSON       of mqttetl export, mosquitto_sub -F %j and %J, or with the names that
             --columns gives: one object a line, pretty-printed objects, an array
  CSV        of mqttetl export, or with the columns that --columns names; --header
             names them where the file has no header
  owntracks  .rec files of OwnTracks Recorder; --topic is that of the device

Names for --columns are field=name, of time, topic, payload, qos, retain, dup,
source, properties; a.b is the member b of the member a. A payload may be written
as payload=name:base64, :hex, :text (a string, null is empty), :json (as it
stands), :buffer (Node.js), :python (b'…'); with --format its name is %p.
A message without a payload is rejected.

Other lines are read as --format says, in the language of sub -F: %I %U (time)
%t %p %x %X %q %r %l %m %j %J, %A %C %D %E %F %P %R %S (properties), @Y-@m-@d
and its kin, \t, widths. The text between two letters ends the value before it:
in '%I %t %p' a topic ends at its first space, and the rest is payload. Only the
last value may hold that text itself. With a format that begins with a time, or
other text that shows where a message begins, lines that do not begin so belong to
the payload before them; with %l before %p its length decides.

A line without a time, or with an empty cell for it, gets the present time, and is
counted. Times are RFC 3339 and its kin or Unix times in any unit; --time-format
says another form, in letters as of date(1) or as unix, unix_ms, unix_us, unix_ns.
A time without a zone is UTC, or of --timezone; --since and --until of the commands
that read, otherwise, take such a time as local. Where the clocks of the zone were
put back, the order of the lines decides which of the two times it is; a time that
they skipped is rejected.

A line that cannot be read stops nothing. Import writes it, with its number and the
reason, to FILE.rejected, from standard input to stdin.rejected. With --rejected, one
file takes them all, and each number has the name of its file before it. Without
--resume these files are replaced; but a file of --rejected that holds lines of files
not named now is appended to.

The log keeps how far a file has been read. With --resume an import that was
interrupted or killed continues there, and each line is in the log once. Without
--resume a file is read from its beginning; if its lines are in the log already, they
are there once more, and import says so. Import knows a file by its path: a moved file
is another one. It refuses a file whose part that was read has changed, or whose last
line had no end and has grown. Standard input is a file named -, and must be given
from its beginning again.

The log can have one writer: stop the service while importing.

Exit codes: 0 all lines imported, 1 lines were rejected, or the format of a file is
unknown, 2 usage, 65 a damaged or changed file, or a damaged log, 74 the log is in
use, or a file or the archive cannot be read or written, 78 bad configuration.`

func newImport(std streams) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import FILE…",
		Short: "Read exports and recordings of other programs into the log",
		Long:  importHelp,
		Example: `  mqttetl import -c mqttetl.yaml export.ndjson.zst
  mosquitto_sub -t '#' -F %j -W 60 > day.json; mqttetl import day.json
  mqttetl import --format '%I %t %p' recording.txt --dry-run | head
  mqttetl import --columns time=ts,topic=t,payload=value table.csv.gz --resume
  mqttetl import --header time,topic,payload,qos,retain no-header.csv
  mqttetl import --columns time=received_at,payload=msg_b64:base64 recorded.ndjson
  mqttetl import --topic owntracks/jane/phone 2026-01.rec`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("which file? - is standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.zoned = cmd.Flags().Changed("timezone")
			err := f.check()
			if err != nil {
				return usageError{err, cmd}
			}
			return f.do(cmd, std, args)
		},
	}
	configFlag(cmd, &f.config)
	flags := cmd.Flags()
	flags.StringVar(&f.format, "format", "", "ndjson, csv, owntracks, or letters of sub -F (default: by what the file begins with)")
	flags.StringVar(&f.columns, "columns", "", "names of JSON members or CSV columns: time=ts,topic=t,payload=value:base64")
	flags.StringVar(&f.header, "header", "", "names of the columns of CSV without a header: time,topic,payload")
	flags.StringVar(&f.topic, "topic", "", "topic of lines that name none")
	flags.StringVar(&f.timeFormat, "time-format", "", "how times are written: '%d.%m.%Y %H:%M:%S', or unix, unix_ms, unix_us, unix_ns")
	flags.StringVar(&f.separator, "separator", "", `what separates CSV columns, one character or \t (default: by the header, or a comma)`)
	flags.StringVar(&f.rejected, "rejected", "", "file for the rejected lines of all files (default: FILE.rejected)")
	flags.StringVar(&f.timezone, "timezone", "UTC", "zone of times that name none: local, or as in Europe/Berlin")
	flags.StringVar(&f.source, "source", "import", "source of lines that name none")
	flags.BoolVar(&f.resume, "resume", false, "continue where an import of the same file ended")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be read as NDJSON; import nothing")
	flags.BoolVar(&f.quiet, "no-progress", false, "no progress on a terminal")
	return cmd
}

// do imports, or tries to, and says whose fault an error is.
func (f *importFlags) do(cmd *cobra.Command, std streams, paths []string) (err error) {
	if f.dryRun {
		err = f.try(cmd.Context(), std, paths)
	} else {
		var cfg *config.Config
		if cfg, err = loadStores(f.config); err == nil {
			err = f.run(cmd.Context(), std, cfg, paths)
		}
	}
	if _, ok := errors.AsType[importer.OptionError](err); ok {
		return usageError{err, cmd}
	}
	if errors.Is(err, importer.ErrChanged) {
		return codedError{err, exitDamaged}
	}
	return err
}

// check finds what is wrong with the flags before anything is read.
func (f *importFlags) check() error {
	_, noSeparator := importer.ParseSeparator(cmp.Or(f.separator, ","))
	_, noZone := f.zone()
	for _, c := range []struct {
		flag string
		err  error
	}{
		{"topic", importer.CheckTopic(cmp.Or(f.topic, "topic"))}, {"time-format", importer.CheckTimeFormat(f.timeFormat)},
		{"format", importer.CheckFormat(f.format, f.topic, f.timeFormat)}, {"columns", importer.CheckColumns(f.columns)},
		{"header", importer.CheckHeader(f.header)}, {"separator", noSeparator}, {"timezone", noZone},
	} {
		if c.err != nil {
			return fmt.Errorf("--%s: %w", c.flag, c.err)
		}
	}
	switch f.format {
	case "", "csv":
		return nil
	case "ndjson", "%j", "%J":
	default:
		if f.columns != "" && !strings.HasPrefix(f.columns, "payload=%p:") {
			return fmt.Errorf("--columns is for JSON and CSV, not with --format %s: only payload=%%p:base64 and its kin are", f.format)
		}
	}
	if f.separator+f.header != "" {
		return fmt.Errorf("--header and --separator are for CSV, not with --format %s", f.format)
	}
	return nil
}

// zone is that of times that name none.
func (f *importFlags) zone() (*time.Location, error) {
	if f.timezone == "local" {
		return time.Local, nil
	}
	zone, err := time.LoadLocation(f.timezone)
	if err != nil {
		return nil, fmt.Errorf("%q is no time zone such as UTC or Europe/Berlin, and not local", f.timezone)
	}
	return zone, nil
}

// each calls do with the importer of every file, and counts over all of them.
func (f *importFlags) each(std streams, paths []string, log importer.Log, more importer.Config, do func(*importer.Importer) error) (total importer.Stats, err error) {
	if f.separator != "" {
		more.Separator, _ = importer.ParseSeparator(f.separator) // checked before
	}
	more.Zone, _ = f.zone() // checked before
	more.Format, more.Columns, more.Header, more.Topic, more.TimeFormat = f.format, f.columns, f.header, f.topic, f.timeFormat
	more.Source, more.Resume, more.Shared = f.source, f.resume, f.rejected != ""
	for _, path := range paths {
		in, err := openInput(std, path)
		if err != nil {
			return total, err
		}
		c := more
		c.Name, c.In, c.Rejected = in.name, in, f.rejectedOf(path)
		first := ""
		if c.Bad == nil {
			c.Bad = func(line int64, why error) {
				if first == "" {
					first = fmt.Sprintf("; line %d: %s", line, oneLine(why))
				}
			}
		} else {
			c.Bad = func(line int64, why error) { more.Bad(line, fmt.Errorf("%s:%d: %w", path, line, why)) }
		}
		m, err := importer.New(c, log)
		if err == nil {
			err = do(m)
			s := m.Stats()
			total.Add(&s)
			if s.Rejected > 0 && c.Dry == nil {
				fmt.Fprintf(std.err, "%s: %s rejected, see %s%s\n", path, lines(s.Rejected), c.Rejected, first)
			}
			if s.Again > 0 {
				fmt.Fprintf(std.err, "%s has been imported before up to line %d, and this much is in the log again; --resume would have gone on after it\n", path, s.Again)
			}
		}
		if err = errors.Join(err, in.Close()); err != nil {
			return total, err
		}
	}
	return total, nil
}

// outcome prints the account of an import that has come to its end.
func (f *importFlags) outcome(std streams, s importer.Stats, took time.Duration) error {
	before := ""
	if s.Before > 0 {
		before = fmt.Sprintf(", read before %d", s.Before)
	}
	fmt.Fprintf(std.err, "imported %s, rejected %d%s, in %v (%.0f/s)\n", lines(s.Imported), s.Rejected, before,
		took.Round(time.Millisecond), rate(uint64(s.Imported), took))
	return f.account(std, s)
}

// account says what is not as the lines had it.
func (f *importFlags) account(std streams, s importer.Stats) error {
	if s.Untimed > 0 {
		hint := ""
		if s.TimeName != "" {
			hint = fmt.Sprintf("; --columns time=%s if that is the time", s.TimeName)
		}
		fmt.Fprintf(std.err, "%s without a time got the present one%s\n", lines(s.Untimed), hint)
	}
	if len(s.Unseen) > 0 {
		fmt.Fprintf(std.err, "no line has what --columns names: %s\n", strings.Join(s.Unseen, ", "))
	}
	if s.Zoneless > 0 && !f.zoned {
		fmt.Fprintf(std.err, "%s with a time that names no zone: taken as UTC, --timezone says another\n", lines(s.Zoneless))
	}
	if s.Twice > 0 {
		fmt.Fprintf(std.err, "%s at a time that the clocks showed twice: the order of the lines decided\n", lines(s.Twice))
	}
	return unreadable(s)
}

func lines(n int64) string {
	if n == 1 {
		return "1 line"
	}
	return fmt.Sprintf("%d lines", n)
}

func unreadable(s importer.Stats) error {
	if s.Rejected > 0 {
		return fmt.Errorf("%s could not be read", lines(s.Rejected))
	}
	return nil
}

// dryReasons is how many lines a dry run gives the reasons for.
const dryReasons = 10

// try prints what would be imported.
func (f *importFlags) try(ctx context.Context, std streams, paths []string) error {
	var enc export.JSON
	var line []byte
	said := 0
	total, err := f.each(std, paths, nil, importer.Config{
		Dry: func(r *mqttetl.Record) error {
			line = enc.Append(line[:0], r)
			_, err := std.out.Write(line)
			return err
		},
		Bad: func(_ int64, why error) {
			if said++; said <= dryReasons {
				fmt.Fprintln(std.err, oneLine(why))
			}
		},
	}, func(m *importer.Importer) error { return m.Run(ctx) })
	if err != nil {
		return err
	}
	if said > dryReasons {
		fmt.Fprintf(std.err, "and %d more\n", said-dryReasons)
	}
	fmt.Fprintf(std.err, "would import %s, would reject %d\n", lines(total.Imported), total.Rejected)
	return f.account(std, total)
}

// locked is a writer for several goroutines.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// run imports with the log open and, beside it, what drains it: an import may be
// larger than the log.
func (f *importFlags) run(ctx context.Context, std streams, cfg *config.Config, paths []string) error {
	if err := f.checkFiles(paths, os.Stat); err != nil {
		return err
	}
	alone := *cfg
	alone.Sources = nil
	line := newProgressLine(std.err, f.quiet)
	std.err = &locked{w: std.err} // the parts write to it too
	logger := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p, err := pipeline.Open(&alone, pipeline.Options{Logger: logger})
	if errors.Is(err, mqttetl.ErrLocked) {
		return mqttetl.WithHint(err, "the log can have one writer: stop the service while importing")
	}
	if err != nil {
		return err
	}
	return p.While(ctx, func(ctx context.Context) error {
		err := f.files(ctx, std, line, p.Log(), paths)
		return errors.Join(err, archived(ctx, p))
	})
}

// files imports one file after the other and prints the account.
func (f *importFlags) files(ctx context.Context, std streams, line *progressLine, log importer.Log, paths []string) error {
	if err := f.replaceRejected(paths); err != nil {
		return err
	}
	began := time.Now()
	total, err := f.each(std, paths, log, importer.Config{}, func(m *importer.Importer) error {
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
	if err != nil && mqttetl.Hint(err) == "" && total.Imported+total.Before > 0 {
		hint := "with --resume the same command continues after what is in the log"
		switch {
		case errors.Is(err, importer.ErrCut):
			hint = "what comes before it is in the log; --resume continues after it when the file is whole"
		case errors.Is(err, importer.ErrBroken):
			hint = "gzip -t and zstd -t check a file: lines that were read after the damage may be wrong, and --resume continues with a whole file only if none is"
		}
		err = mqttetl.WithHint(err, hint)
	}
	if err != nil {
		return err
	}
	return f.outcome(std, total, time.Since(began))
}

// archived waits, as long as the archive gets on, until it has everything. It
// is an error if it cannot be used, though the log keeps for it what it lacks.
func archived(ctx context.Context, p *pipeline.Pipeline) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, since := mqttetl.Seq(0), time.Now()
	for {
		s := p.Status()
		switch {
		case s.Archive == nil || s.Archive.Lag == 0:
			return nil
		case s.Archive.Cursor != last:
			last, since = s.Archive.Cursor, time.Now()
		case time.Since(since) < 5*time.Second:
		case s.Archive.Error == "":
			return nil
		default:
			return codedError{mqttetl.WithHint(fmt.Errorf("%d records are in the log and not in the archive: %s", s.Archive.Lag, s.Archive.Error),
				"the service archives them when the archive can be used again"), exitIO}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
