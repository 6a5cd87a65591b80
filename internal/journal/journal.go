// Package journal writes the log of a program into that of systemd.
package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"syscall"
)

// Is tells whether f is the stream that systemd names by device and inode in
// JOURNAL_STREAM (systemd.exec(5)).
func Is(f *os.File, stream string) bool {
	info, err := f.Stat()
	if err != nil || stream == "" {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// writer writes records as slog's text does, but with the level as the
// priority prefix of sd-daemon(3) and without the time, which the journal keeps
// itself.
type writer struct {
	text slog.Handler // writes to line.buf
	line *line
}

type line struct {
	sync.Mutex
	buf bytes.Buffer
	w   io.Writer
}

// New returns what writes records to w as the journal reads them.
func New(w io.Writer, options *slog.HandlerOptions) slog.Handler {
	l := &line{w: w}
	return writer{line: l, text: slog.NewTextHandler(&l.buf, &slog.HandlerOptions{
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

func (j writer) Enabled(ctx context.Context, l slog.Level) bool { return j.text.Enabled(ctx, l) }

func (j writer) WithAttrs(as []slog.Attr) slog.Handler {
	return writer{j.text.WithAttrs(as), j.line}
}

func (j writer) WithGroup(name string) slog.Handler { return writer{j.text.WithGroup(name), j.line} }

func (j writer) Handle(ctx context.Context, r slog.Record) error {
	j.line.Lock()
	defer j.line.Unlock()
	j.line.buf.Reset()
	fmt.Fprintf(&j.line.buf, "<%d>", Priority(r.Level))
	if err := j.text.Handle(ctx, r); err != nil {
		return err
	}
	_, err := j.line.w.Write(j.line.buf.Bytes())
	return err
}

// Priority is the syslog severity of a level (RFC 5424 §6.2.1).
func Priority(l slog.Level) int {
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
