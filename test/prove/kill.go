package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/mqttetl/mqttetl/test/e2e"
	"github.com/mqttetl/mqttetl/test/service"
)

// savingConf is a broker that saves its sessions as it goes, so that what a
// kill takes from it is little.
const savingConf = "persistence true\nautosave_interval 50\nautosave_on_changes true\nmax_queued_messages 0\nmax_inflight_messages 1000\n"

// Where the processes are killed, beside at random moments.
var (
	logPoints = []point{
		{"", "write", 40},
		{"log/data.mdb", "writev", 20},
		{"log/data.mdb", "pwrite64", 60},
		{"log/data.mdb", "fdatasync", 30},
	}
	archivePoints = []point{
		{"telemetry.db-wal", "pwrite64", 30},
		{"telemetry.db-wal", "fsync", 4},
		{"telemetry.db", "pwrite64", 10},
	}
	servicePoints    = slices.Concat(logPoints, archivePoints)
	firstStartPoints = []point{
		{"", "renameat", 1},
		{"", "unlinkat", 2},
		{"", "fsync", 4},
		{"telemetry.db", "pwrite64", 20},
		{"log/new/data.mdb", "pwrite64", 4},
	}
	natsPoints   = []point{{"", "write", 100}, {"", "pwrite64", 30}, {"", "fsync", 4}, {"", "renameat", 4}}
	brokerPoints = []point{{"", "write", 200}, {"", "rename", 4}, {"", "fsync", 4}}
)

func killCampaign() *Campaign {
	return &Campaign{
		Name:    "kill",
		Injects: "kill -9 of mqttetl, nats-server or Mosquitto at a random moment or within the N-th write, fdatasync, pwrite64, rename …, QoS 1 and 2",
		Short:   20, Long: 1000,
		Run: func(ctx context.Context, e Env) (Tally, error) {
			return eachTrial(ctx, e, killTrial)
		},
		Controls: []Control{
			{Name: "acknowledge before the commit", Replace: e2e.EarlyAck, Setting: only("service"), Trials: 100},
			{Name: "acknowledge when the interval begins", Replace: ackAtOnce, Setting: only("service"), Trials: 100},
			{Name: "archive cursor outside the transaction", Replace: cursorOutside, Setting: only("archive"), Trials: 100},
			{Name: "position moved when sent, not when confirmed", Replace: movedWhenSent, Setting: only("nats"), Trials: 100},
		},
	}
}

// ackAtOnce is an ingest that acknowledges what waits for the end of an interval.
var ackAtOnce = map[string][2]string{"ingest/session/conn.go": {
	"c.window.take(d.cost)",
	"if d.Patient {\n\t\tc.writer.due.add(d.acks, d.came)\n\t\tc.writer.flushNow()\n\t\td.acks = d.acks[:0]\n\t}\n\tc.window.take(d.cost)",
}}

// cursorOutside is an archive that commits the rows and then the cursor.
var cursorOutside = map[string][2]string{"sink/archive/archive.go": {
	"func (a *Archive) finish() error {",
	"func (a *Archive) finish() error {\n\tif err := run(a.stmt.commit); err != nil {\n\t\treturn err\n\t}\n\treturn run(a.stmt.setCursor, int64(a.next-1))\n}\n\nfunc (a *Archive) finishAtOnce() error {",
}}

// movedWhenSent is a forwarder that takes what it has sent for stored.
var movedWhenSent = map[string][2]string{
	"forward/attempt.go": {"if !alone {", "a.f.settle(rec.Seq)\n\tif !alone {"},
	"forward/begin.go":   {"next, err := f.records.Seek(after)", "after = max(after, before)\n\tnext, err := f.records.Seek(after)"},
}

// eachTrial makes the trials one after the other, each in a directory of its own.
func eachTrial(ctx context.Context, e Env, trial func(ctx context.Context, e Env, dir string, rnd *rand.Rand, t *Tally) error) (Tally, error) {
	var t Tally
	for i := 0; e.More(&t); i++ {
		dir, err := e.trialDir(i)
		if err != nil {
			return t, err
		}
		known := len(t.Violations)
		ctx, cancel := context.WithTimeoutCause(ctx, trialTime, errStuck)
		err = trial(ctx, e, dir, e.Trial(i), &t)
		if err != nil && context.Cause(ctx) == errStuck {
			err = fmt.Errorf("%w: %w", errStuck, err)
		}
		cancel()
		for _, v := range t.Violations[known:] {
			if e.Control == "" { // a long run need not end before it is known what it has found
				e.Log("finds %s", v)
			}
		}
		if errors.Is(err, errDown) || errors.Is(err, errStuck) {
			t.Violate("trial %d (seed %d): %v", i, e.Seed+uint64(i), err)
		} else if caught := e.Control != "" && t.Failed(); err != nil && !caught {
			return t, fmt.Errorf("trial %d (seed %d): %w", i, e.Seed+uint64(i), err)
		}
		t.Trials++
		if err := os.RemoveAll(dir); err != nil {
			return t, err
		}
	}
	return t, nil
}

// interval is log.commit_interval of a trial: the default, none, or one in which much waits.
func interval(rnd *rand.Rand) string { return []string{"", "0s", "400ms"}[rnd.IntN(3)] }

// killTrial kills one of the processes while a publisher sends, starts it again
// and counts.
func killTrial(ctx context.Context, e Env, dir string, rnd *rand.Rand, t *Tally) error {
	s := setup{dir: dir}
	victim := rnd.IntN(10) // 0…5 the service, 6 its first start, 7 8 NATS, 9 the broker
	switch e.Only {
	case "service", "archive":
		victim = 0
	case "nats":
		victim = 7
	}
	if victim == 9 {
		s.broker = savingConf
	} else if rnd.IntN(4) == 0 {
		s.settings.QoS = 2
	}
	s.settings.CommitInterval = interval(rnd)
	w, err := newWorld(e.Bin, s)
	if err != nil {
		return err
	}
	defer w.close()
	trial := ""
	if victim == 6 {
		if trial, err = w.killFirstStart(ctx, rnd); err != nil {
			return err
		}
	}
	if err := w.restart(ctx); err != nil {
		return fmt.Errorf("%s: %w", trial, err)
	}
	stop := w.publish(ctx)
	defer stop()
	if err := w.more(ctx, 200); err != nil {
		return err
	}
	switch {
	case victim < 6:
		trial, err = w.killService(ctx, rnd, e.Only)
	case victim == 7 || victim == 8:
		trial, err = w.killNATS(ctx, rnd)
	case victim == 9:
		trial, err = w.killBroker(ctx, rnd)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", trial, err)
	}
	if err := w.more(ctx, 200); err != nil {
		return err
	}
	stop()
	return w.account(ctx, t, fmt.Sprintf("trial %d (seed %d), %s, QoS %d", t.Trials, e.Seed+uint64(t.Trials), trial, w.pub.QoS), victim == 9)
}

// randomMoment lets up to 1,500 messages and up to a few milliseconds pass.
func (w *world) randomMoment(ctx context.Context, rnd *rand.Rand) error {
	n, d := rnd.IntN(1500), time.Duration(rnd.IntN(5000))*time.Microsecond
	if err := w.more(ctx, n); err != nil {
		return err
	}
	time.Sleep(d) // the moment itself, not a wait for anything
	return nil
}

// killFirstStart kills the service while it makes its stores.
func (w *world) killFirstStart(ctx context.Context, rnd *rand.Rand) (trial string, err error) {
	p, when := pick(rnd, firstStartPoints)
	trial = fmt.Sprintf("first start killed at %s %d of %q", p.call, when, p.file)
	w.Wrap = inject(w.Dir, p, "signal=KILL", fmt.Sprint(when))
	defer func() { w.Wrap = nil }()
	if err := w.Start(); err != nil {
		return trial, err
	}
	_, err = w.Await(ctx, "ready", func(s service.Status) bool { return s.Ready })
	w.Kill()
	return trial, ctx.Err() // ready or killed, either will do
}

// killService kills it at a random moment, or has it killed in a system call of
// a further start, and starts it again.
func (w *world) killService(ctx context.Context, rnd *rand.Rand, only string) (trial string, err error) {
	points, enough := servicePoints, 3000
	if only == "archive" { // whose commits are few: let the one come that is chosen
		points, enough = archivePoints[:2], 50_000
	} else if rnd.IntN(3) == 0 {
		if err := w.randomMoment(ctx, rnd); err != nil {
			return "", err
		}
		w.Kill()
		return "service killed at random", w.restart(ctx)
	}
	p, when := pick(rnd, points)
	trial = fmt.Sprintf("service killed at %s %d of %q", p.call, when, p.file)
	w.Kill()
	w.Wrap = inject(w.Dir, p, "signal=KILL", fmt.Sprint(when))
	if err := w.Start(); err != nil {
		return trial, err
	}
	if err := w.endedOr(ctx, enough); err != nil {
		return trial, err
	}
	w.Kill()
	w.Wrap = nil
	return trial, w.restart(ctx)
}

// endedOr waits until the service has ended or n further messages have been
// acknowledged to the publisher.
func (w *world) endedOr(ctx context.Context, n int) error {
	n += w.pub.Acked()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !w.Ended() && w.pub.Acked() < n {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// killNATS kills the JetStream server and starts it again.
func (w *world) killNATS(ctx context.Context, rnd *rand.Rand) (trial string, err error) {
	trial, err = w.killAttached(ctx, rnd, natsPoints, w.nats.Pid())
	if err != nil {
		return "nats-server " + trial, err
	}
	return "nats-server " + trial, errors.Join(w.nats.Kill(), w.more(ctx, rnd.IntN(300)), w.nats.Restart())
}

// killBroker kills Mosquitto and starts it again.
func (w *world) killBroker(ctx context.Context, rnd *rand.Rand) (trial string, err error) {
	trial, err = w.killAttached(ctx, rnd, brokerPoints, w.broker.Pid())
	if err != nil {
		return "Mosquitto " + trial, err
	}
	return "Mosquitto " + trial, errors.Join(w.broker.Kill(), w.broker.Restart())
}

// killAttached lets the moment come at which a server is to be killed: a random
// one, or a system call in which strace kills it.
func (w *world) killAttached(ctx context.Context, rnd *rand.Rand, points []point, pid int) (trial string, err error) {
	if rnd.IntN(3) == 0 {
		return "killed at random", w.randomMoment(ctx, rnd)
	}
	p, when := pick(rnd, points)
	trial = fmt.Sprintf("killed at %s %d", p.call, when)
	done, stop, err := attach(ctx, inject("", p, "signal=KILL", fmt.Sprint(when)), pid)
	if err != nil {
		return trial, err
	}
	defer stop()
	enough := make(chan error, 1)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { enough <- w.more(waiting, 2000) }()
	select {
	case <-done:
		return trial, nil
	case err := <-enough:
		return trial, err
	}
}
