package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/journal"
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
			fmt.Fprintf(w, "<%d>%s", journal.Priority(slog.LevelError), line)
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
		return slog.New(journal.New(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func (l *logFlags) isJournal(w io.Writer) bool {
	return l.format == "journal" || l.format == "" && isJournal(w)
}

// isJournal tells whether w is connected to the journal.
func isJournal(w io.Writer) bool {
	f, ok := file(w)
	return ok && journal.Is(f, os.Getenv("JOURNAL_STREAM"))
}
