package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/internal/backoff"
	"github.com/mqttetl/mqttetl/test/service"
)

const (
	fullKeepAlive = "2s"            // of the session: a broker gives up after one and a half of it
	fullTime      = 5 * time.Second // for which the log stays full
	settleTime    = 500 * time.Millisecond
	resumeTime    = 5 * time.Second // within which it must go on once there is room
	flatMemory    = 16 << 20        // bytes by which memory may differ meanwhile
)

func fullCampaign() *Campaign {
	return &Campaign{
		Name: "full",
		Injects: "the disk (tmpfs of 192 MiB, filled by another file) or log.max_size full for 5 s under load, keepalive " + fullKeepAlive +
			fmt.Sprintf("; log and archive on one tmpfs of %d MiB, the archive locked until the log pauses", smallDisk),
		Short: 3, Long: 100,
		Without: withoutDisk,
		Run:     func(ctx context.Context, e Env) (Tally, error) { return eachTrial(ctx, e, fullTrial) },
		Controls: []Control{
			{Name: "acknowledge and forget while full", Replace: map[string][2]string{"sink/wal/commit.go": {
				"l.pause(full)", "l.pause(full)\n\t\tfor _, b := range group[:n] {\n\t\t\tb.Done(1, nil)\n\t\t}\n\t\treturn n, nil",
			}}, Trials: 2},
			{Name: "a full disk taken for a broken one", Replace: map[string][2]string{"sink/wal/commit.go": {
				"l.pause(full)", "return 0, err",
			}}, Trials: 2},
			{Name: "no room left for the archive", Replace: map[string][2]string{"sink/wal/drain.go": {
				"if d == nil || n == 0 {", "if true {",
			}}, Setting: only("small"), Skip: needMount, Trials: 2},
		},
	}
}

// withoutDisk says why no disk is filled here.
func withoutDisk() string {
	if why := needMount(); why != "" {
		return "a full disk: " + why
	}
	return ""
}

// fullTrial fills the log, watches it pause, makes room and watches it go on.
func fullTrial(ctx context.Context, e Env, dir string, rnd *rand.Rand, t *Tally) error {
	if e.Only == "small" || e.Only == "" && rnd.IntN(3) == 0 && needMount() == "" {
		return smallTrial(ctx, e, dir, rnd, t)
	}
	byDisk := rnd.IntN(2) == 0 && needMount() == ""
	trial := fmt.Sprintf("trial %d (seed %d), max_size reached", t.Trials, e.Seed+uint64(t.Trials))
	s := setup{dir: dir, settings: service.Settings{KeepAlive: fullKeepAlive, MaxSize: "2MiB"}}
	if byDisk {
		trial = fmt.Sprintf("trial %d (seed %d), disk full", t.Trials, e.Seed+uint64(t.Trials))
		s = setup{dir: dir, files: filepath.Join(dir, "small"), settings: service.Settings{KeepAlive: fullKeepAlive}}
		if err := os.Mkdir(s.files, 0o750); err != nil {
			return err
		}
		unmount, err := mountSmall(s.files, 192)
		if err != nil {
			return err
		}
		defer unmount()
	}
	w, err := newWorld(e.Bin, s)
	if err != nil {
		return err
	}
	defer w.close()
	w.pub.Size, w.pub.Rate = 4000, 800 // a load that fits in when there is room again
	if err := w.start(ctx); err != nil {
		return err
	}
	stop := w.publish(ctx)
	defer stop()
	if err := w.more(ctx, rnd.IntN(400)); err != nil {
		return err
	}
	makeRoom, err := w.takeRoom(byDisk)
	if err != nil {
		return err
	}
	if err := w.pauses(ctx, t, trial); err != nil {
		return err
	}
	if err := w.resumes(ctx, t, trial, makeRoom); err != nil {
		return err
	}
	stop()
	return w.account(ctx, t, trial, false)
}

// takeRoom fills the disk, or stops the consumer that lets the log trim.
func (w *world) takeRoom(byDisk bool) (makeRoom func() error, err error) {
	if !byDisk {
		return w.nats.Restart, w.nats.Kill()
	}
	filler := filepath.Join(w.Dir, "filler")
	return func() error { return os.Remove(filler) }, fill(filler)
}

// pauses waits for the pause, and notes what happens in it that must not.
func (w *world) pauses(ctx context.Context, t *Tally, trial string) error {
	before, err := w.Await(ctx, "pauses", func(s service.Status) bool { return s.Log.Paused })
	if w.Ended() {
		return fmt.Errorf("%w while full", errDown)
	} else if err != nil {
		return err
	}
	backoff.Pause(ctx, settleTime) // for acknowledgements of what was committed before
	acked, memory, connections := w.tap.count(), rssAnon(w.Pid()), w.in.Connections()
	backoff.Pause(ctx, fullTime)
	if n := w.tap.count() - acked; n > 0 {
		t.Violate("%s: %d messages acknowledged while full", trial, n)
	}
	if grown := rssAnon(w.Pid()) - memory; grown > flatMemory {
		t.Violate("%s: memory grew by %d bytes while full", trial, grown)
	}
	after, err := w.Status(ctx)
	switch {
	case w.Ended():
		return fmt.Errorf("%w while full", errDown)
	case err != nil:
		return err
	case !after.Log.Paused:
		return errors.New(trial + ": found room by itself")
	case after.Sources[0].Reconnects != before.Sources[0].Reconnects || w.in.Connections() != connections:
		t.Violate("%s: the connection to the broker did not last", trial)
	}
	return nil
}

// resumes makes room and notes whether it goes on.
func (w *world) resumes(ctx context.Context, t *Tally, trial string, makeRoom func() error) error {
	if err := makeRoom(); err != nil {
		return err
	}
	begun, acked := time.Now(), w.tap.count()
	ctx, cancel := context.WithTimeout(ctx, drainTime/2)
	defer cancel()
	if _, err := w.Await(ctx, "goes on", func(s service.Status) bool { return !s.Log.Paused && w.tap.count() > acked }); err != nil {
		t.Violate("%s: %v", trial, err)
		return nil
	}
	if took := time.Since(begun); took > resumeTime {
		t.Violate("%s: went on only %v after there was room", trial, took.Round(time.Millisecond))
	}
	return nil
}

// rssAnon is the anonymous memory of a process, in bytes; 0 if it has none.
func rssAnon(pid int) int { return memoryOf(pid, "RssAnon:") }

// memoryOf is a figure of /proc/<pid>/status in bytes; 0 if there is none.
func memoryOf(pid int, key string) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), key)
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, _ := strconv.Atoi(number)
	return kib << 10
}
