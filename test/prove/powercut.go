package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/mqttetl/mqttetl/test/e2e"
	"github.com/mqttetl/mqttetl/test/service"
)

func powerCutCampaign() *Campaign {
	return &Campaign{
		Name: "powercut",
		Injects: "power cut of the drive with log and archive (ext4 on a loop device, EXT4_IOC_SHUTDOWN without flush, kill -9, mount again), " +
			"some with syncs or writes delayed, at the first start, or cut a second time while it recovers",
		Short: 10, Long: 500,
		Skip: needDrive,
		Run: func(ctx context.Context, e Env) (Tally, error) {
			return eachTrial(ctx, e, powerCutTrial)
		},
		Controls: []Control{
			{Name: "log with NoMetaSync", Replace: noMetaSync, Trials: 60},
			{Name: "archive with synchronous=NORMAL, log trimmed", Replace: syncNormal, Trials: 60},
			{Name: "acknowledge before the commit", Replace: e2e.EarlyAck, Trials: 60},
		},
	}
}

var (
	// noMetaSync is LMDB whose meta page is written and not synced.
	noMetaSync = map[string][2]string{"sink/wal/env.go": {
		"envFlags = lmdb.NoMemInit", "envFlags = lmdb.NoMemInit | lmdb.NoMetaSync",
	}}
	// syncNormal is an archive whose commits are not synced.
	syncNormal = map[string][2]string{"sink/archive/open.go": {
		"PRAGMA synchronous=FULL;", "PRAGMA synchronous=NORMAL;",
	}}
)

// slow are the system calls that are delayed before a cut, to widen the time in
// which it meets something half done; the first entry delays nothing.
var slow = []struct {
	point
	most int // milliseconds
}{
	{},
	{point{file: "log/data.mdb", call: "fdatasync"}, 20},
	{point{file: "log/data.mdb", call: "pwrite64"}, 10},
	{point{file: "telemetry.db-wal", call: "fsync,fdatasync"}, 60},
	{point{file: "telemetry.db-wal", call: "pwrite64"}, 5},
}

// powerCutTrial cuts the power while a publisher sends, restores it and counts.
// Publisher, broker and NATS server are on another drive and go on.
func powerCutTrial(ctx context.Context, e Env, dir string, rnd *rand.Rand, t *Tally) (err error) {
	d, err := newDrive(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	s := setup{dir: dir, files: d.Mount}
	if rnd.IntN(4) == 0 {
		s.settings.QoS = 2
	}
	s.settings.CommitInterval = interval(rnd)
	w, err := newWorld(e.Bin, s)
	if err != nil {
		return err
	}
	defer w.close()
	if err := d.sync(); err != nil { // its configuration
		return err
	}
	stop := func() {} // publishing, which begins when there is a session that queues
	defer func() { stop() }()
	trial := "at the first start"
	if rnd.IntN(6) > 0 {
		trial, stop, err = w.underLoad(ctx, rnd)
	}
	if err == nil {
		trial, err = w.cuts(d, rnd, trial)
	}
	trial = fmt.Sprintf("trial %d (seed %d), %s, QoS %d", t.Trials, e.Seed+uint64(t.Trials), trial, w.pub.QoS)
	if err != nil {
		return fmt.Errorf("%s: %w", trial, err)
	}
	if err := w.intact(ctx); err != nil {
		t.Violate("%s: after the cut: %v", trial, err)
	}
	if err := w.start(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		t.Violate("%s: does not start after the cut: %s", trial, tail(w.Output(), 600))
		return nil
	}
	stop()
	stop = w.publish(ctx)
	if err := w.more(ctx, 100); err != nil {
		return err
	}
	stop()
	return w.account(ctx, t, trial, false)
}

// underLoad runs the service, with something delayed, until a random moment.
func (w *world) underLoad(ctx context.Context, rnd *rand.Rand) (trial string, stop func(), err error) {
	trial, stop = "under load", func() {}
	if s := slow[rnd.IntN(len(slow))]; s.call != "" {
		delay := 1 + rnd.IntN(s.most)
		trial = fmt.Sprintf("under load with %s of %s delayed by %d ms", s.call, s.file, delay)
		w.Wrap = inject(w.Dir, s.point, fmt.Sprintf("delay_enter=%d", delay*1000), "1+")
		defer func() { w.Wrap = nil }()
	}
	if err := w.start(ctx); err != nil {
		return trial, stop, fmt.Errorf("%w\n%s", err, w.Output())
	}
	stop = w.publish(ctx)
	if rnd.IntN(2) > 0 { // long enough for the log to be trimmed behind a few transactions of the archive
		if _, err := w.Await(ctx, "trimmed", func(s service.Status) bool { return s.Log.First > 1 }); err != nil {
			return trial, stop, err
		}
	}
	if err := w.more(ctx, 100); err != nil {
		return trial, stop, err
	}
	return trial, stop, w.randomMoment(ctx, rnd)
}

// cuts cuts the power of the service if it runs, then perhaps, or else, that of
// one that starts.
func (w *world) cuts(d *drive, rnd *rand.Rand, trial string) (string, error) {
	if !w.Ended() {
		if err := w.cut(d); err != nil || rnd.IntN(4) > 0 {
			return trial, err
		}
		trial += " and again while it recovers"
	}
	if err := w.Start(); err != nil {
		return trial, err
	}
	time.Sleep(time.Duration(rnd.IntN(100_000)) * time.Microsecond) // the moment of the cut, not a wait for anything
	return trial, w.cut(d)
}

// cut cuts the power of the drive, kills the service and mounts the drive again.
func (w *world) cut(d *drive) error {
	err := d.cut()
	w.Kill()
	return errors.Join(err, d.restore())
}

// intact runs mqttetl verify, once there is a log.
func (w *world) intact(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(w.LogDir(), "data.mdb")); err != nil {
		return nil
	}
	return w.Verify(ctx)
}
