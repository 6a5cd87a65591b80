package prove

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/e2e"
	"github.com/mqttetl/mqttetl/test/service"
)

// goneTime is how long it may take to notice: a second, on a machine that has
// nothing else to do.
const goneTime = 3 * time.Second

// TestLogGone: when the files of the log are deleted, moved or replaced under
// the running service, it acknowledges nothing more, ends with exit code 74, and
// says what to do. What it had acknowledged by then is in the archive, or in the
// log that was moved.
func TestLogGone(t *testing.T) {
	bin, err := service.Build(context.Background(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	moved := func(path string) func(*world) error {
		return func(w *world) error {
			return os.Rename(filepath.Join(w.Dir, path), filepath.Join(w.Dir, path)+".moved")
		}
	}
	back := func(path string) func(*world) error {
		return func(w *world) error {
			return os.Rename(filepath.Join(w.Dir, path)+".moved", filepath.Join(w.Dir, path))
		}
	}
	removed := func(name string) func(*world) error {
		return func(w *world) error { return os.RemoveAll(filepath.Join(w.LogDir(), name)) }
	}
	for _, c := range []struct {
		name string
		do   func(*world) error
		undo func(*world) error // nil: the log is lost
		says string
	}{
		{"rm -rf log.dir", removed(""), nil, "move log.dir and archive.path aside"},
		{"rm data.mdb", removed("data.mdb"), nil, "move log.dir and archive.path aside"},
		{"data.mdb replaced", func(w *world) error {
			if err := os.WriteFile(filepath.Join(w.LogDir(), "new.mdb"), []byte("other"), 0o600); err != nil {
				return err
			}
			return os.Rename(filepath.Join(w.LogDir(), "new.mdb"), filepath.Join(w.LogDir(), "data.mdb"))
		}, nil, "move log.dir and archive.path aside"},
		{"mv log.dir", moved("log"), back("log"), "move it back to"},
		{"mv its parent", func(w *world) error { return os.Rename(w.Dir, w.Dir+".moved") },
			func(w *world) error { return os.Rename(w.Dir+".moved", w.Dir) }, "move it back to"},
		{"mv data.mdb", moved("log/data.mdb"), back("log/data.mdb"), "move it back to"},
		{"rm mqttetl.lock", removed("mqttetl.lock"), func(*world) error { return nil }, "start again, which makes it anew"},
		{"rm lock.mdb", removed("lock.mdb"), func(*world) error { return nil }, "start again, which makes it anew"},
	} {
		for _, rate := range []int{1000, 0} {
			name := c.name + ", under load"
			if rate == 0 {
				if name = c.name + ", idle"; !strings.Contains(c.name, "log.dir") {
					continue
				}
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), trialTime)
				defer cancel()
				w, err := newWorld(bin, setup{dir: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				defer w.close()
				must := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatalf("%v\nit wrote: %s", err, w.Output())
					}
				}
				must(w.start(ctx))
				w.pub.Rate = rate
				stop := w.publish(ctx)
				defer stop()
				must(w.pub.AwaitAcked(ctx, 500))
				if rate == 0 {
					stop()
					_, err := w.Await(ctx, "drained", func(s service.Status) bool { return s.Log.Last >= 500 })
					must(err)
				}
				must(c.do(w))
				begun := time.Now()
				code, err := w.Exited(ctx)
				must(err)
				if took := time.Since(begun); code != 74 || took > goneTime {
					t.Errorf("exit code %d after %v, want 74 at once", code, took)
				}
				if !strings.Contains(w.Output(), c.says) {
					t.Errorf("it does not say %q: %s", c.says, w.Output())
				}
				stop()
				if c.undo != nil {
					must(c.undo(w))
					must(w.start(ctx))
					var tally Tally
					must(w.account(ctx, &tally, c.name, false))
					if tally.Failed() {
						t.Errorf("%v: %s", &tally, strings.Join(tally.Violations, "\n"))
					}
					return
				}
				w.wantStored(ctx, t)
			})
		}
	}
}

// wantStored checks that what the service has acknowledged is in the archive and
// in the stream.
func (w *world) wantStored(ctx context.Context, t *testing.T) {
	t.Helper()
	rows, err := e2e.ReadArchive(w.Archive())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := e2e.ReadStream(ctx, w.nats.URL(), "E2E")
	if err != nil {
		t.Fatal(err)
	}
	archived, streamed := map[string]bool{}, map[string]bool{}
	for _, r := range rows {
		archived[r.Payload] = true
	}
	for _, m := range stream {
		streamed[m.Payload] = true
	}
	acknowledged, notArchived, notStreamed := w.tap.acknowledged(), 0, 0
	for _, payload := range acknowledged {
		if !archived[payload] {
			notArchived++
		}
		if !streamed[payload] {
			notStreamed++
		}
	}
	if notArchived+notStreamed > 0 || len(acknowledged) == 0 {
		t.Errorf("of %d acknowledged messages %d are not in the archive, %d not in the stream", len(acknowledged), notArchived, notStreamed)
	}
}
