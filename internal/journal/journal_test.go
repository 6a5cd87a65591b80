package journal

import (
	"bytes"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestJournalHasPrioritiesAndNoTime(t *testing.T) {
	var b bytes.Buffer
	l := slog.New(New(&b, &slog.HandlerOptions{Level: slog.LevelDebug})).With("part", "log")
	l.Debug("a")
	l.Info("two\nlines", "level", 7)
	l.WithGroup("g").Warn("c", "time", "x")
	l.Error("d")
	want := "<7>msg=a part=log\n<6>msg=\"two\\nlines\" part=log\n<4>msg=c part=log g.time=x\n<3>msg=d part=log\n"
	want = strings.Replace(want, "part=log\n<4>", "part=log level=7\n<4>", 1)
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestTheJournalIsTheStreamThatSystemdNames(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	name := strconv.FormatUint(st.Dev, 10) + ":" + strconv.FormatUint(st.Ino, 10)
	if !Is(w, name) || Is(w, name+"0") || Is(w, "") {
		t.Errorf("Is is wrong about %s", name)
	}
}
