package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
)

// logFlags choose how the log of the process is written.
type logFlags struct {
	format logFormat
	level  slog.Level
}

func (l *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().Var(&l.format, "log-format", "log format: text, json, journal (default: journal under systemd, else text)")
	cmd.Flags().Var((*logLevel)(&l.level), "log-level", "lowest level that is logged: "+logLevels)
}

// logLevel is the value of --log-level.
type logLevel slog.Level

const logLevels = "debug, info, warn, error"

func (l *logLevel) String() string { return strings.ToLower(slog.Level(*l).String()) }
func (l *logLevel) Type() string   { return "level" }

// Set takes the words in any case, and warning.
func (l *logLevel) Set(s string) error {
	switch strings.ToLower(s) {
	case "debug":
		*l = logLevel(slog.LevelDebug)
	case "info":
		*l = logLevel(slog.LevelInfo)
	case "warn", "warning":
		*l = logLevel(slog.LevelWarn)
	case "error":
		*l = logLevel(slog.LevelError)
	default:
		return errors.New("must be one of " + logLevels)
	}
	return nil
}

// loggedError is the end of a command that writes a log: it is the log's last line.
type loggedError struct {
	error
	logs logFlags
}

func (e loggedError) Unwrap() error { return e.error }

// mark has err told in the format of the log; nil stays nil.
func (l *logFlags) mark(err error) error {
	if err == nil {
		return nil
	}
	return loggedError{err, *l}
}

// complain tells why a command failed: as printError does, but in the journal
// with the priority of an error on every line, and as one line of JSON where
// that is the format of the log.
func complain(w io.Writer, err error) {
	var end loggedError
	errors.As(err, &end)
	switch {
	case end.logs.format == "json":
		args := []any{}
		if hint := mqttetl.Hint(err); hint != "" {
			args = append(args, "hint", hint)
		}
		end.logs.logger(w).Error(oneLine(err), args...)
	case end.logs.isJournal(w):
		var text bytes.Buffer
		printError(&text, err)
		for line := range strings.Lines(text.String()) {
			fmt.Fprintf(w, "<%d>%s", priority(slog.LevelError), line)
		}
	default:
		printError(w, err)
	}
}

type logFormat string

var logFormats = []string{"text", "json", "journal"}

func (f *logFormat) String() string { return string(*f) }
func (f *logFormat) Type() string   { return "format" }

func (f *logFormat) Set(s string) error {
	if !slices.Contains(logFormats, s) {
		return fmt.Errorf("must be one of %s", strings.Join(logFormats, ", "))
	}
	*f = logFormat(s)
	return nil
}

// logger returns the logger that the flags ask for, writing to w.
func (l *logFlags) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.level}
	switch {
	case l.format == "json":
		return slog.New(slog.NewJSONHandler(bare(w), options)) // its escapes are those of JSON
	case l.isJournal(w):
		return slog.New(newJournal(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func (l *logFlags) isJournal(w io.Writer) bool {
	return l.format == "journal" || l.format == "" && isJournal(w, os.Getenv("JOURNAL_STREAM"))
}

// isJournal tells whether w is connected to the journal: systemd names the
// device and inode of that stream in JOURNAL_STREAM (systemd.exec(5)).
func isJournal(w io.Writer, stream string) bool {
	f, ok := file(w)
	if !ok || stream == "" {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// journal writes records as slog's text does, but with the level as the
// priority prefix of sd-daemon(3) and without the time, which the journal keeps
// itself.
type journal struct {
	text slog.Handler // writes to line.buf
	line *journalLine
}

type journalLine struct {
	sync.Mutex
	buf bytes.Buffer
	w   io.Writer
}

func newJournal(w io.Writer, options *slog.HandlerOptions) journal {
	line := &journalLine{w: w}
	return journal{line: line, text: slog.NewTextHandler(&line.buf, &slog.HandlerOptions{
		Level: options.Level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			_, isLevel := a.Value.Any().(slog.Level)
			if len(groups) == 0 && (a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime || a.Key == slog.LevelKey && isLevel) {
				return slog.Attr{}
			}
			return a
		},
	})}
}

func (j journal) Enabled(ctx context.Context, l slog.Level) bool { return j.text.Enabled(ctx, l) }

func (j journal) WithAttrs(as []slog.Attr) slog.Handler {
	return journal{j.text.WithAttrs(as), j.line}
}

func (j journal) WithGroup(name string) slog.Handler { return journal{j.text.WithGroup(name), j.line} }

func (j journal) Handle(ctx context.Context, r slog.Record) error {
	j.line.Lock()
	defer j.line.Unlock()
	j.line.buf.Reset()
	fmt.Fprintf(&j.line.buf, "<%d>", priority(r.Level))
	if err := j.text.Handle(ctx, r); err != nil {
		return err
	}
	_, err := j.line.w.Write(j.line.buf.Bytes())
	return err
}

// priority is the syslog severity of a level (RFC 5424 §6.2.1).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
