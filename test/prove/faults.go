package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"

	"github.com/mqttetl/mqttetl/test/e2e"
	"github.com/mqttetl/mqttetl/test/service"
)

// exitIO is the exit code of a service that cannot trust its drive any more.
const exitIO = 74

// fault is a system call that fails. A retval stands for a short write: so many
// bytes are said to be written, and none are.
type fault struct {
	point
	hows   []string
	traced bool // the order of system calls is checked: only where no file filter is needed
}

// In this service only LMDB calls fdatasync and writev, so that these need no
// filter by file. SQLite is given no short write above 0, after which it would
// write the rest behind bytes that are missing.
var faults = []fault{
	{point{"", "fdatasync", 20}, []string{"error=EIO", "error=ENOSPC", "error=EDQUOT", "error=EINTR"}, true},
	{point{"", "writev", 20}, []string{"error=EIO", "error=ENOSPC", "error=EDQUOT", "error=EINTR", "retval=0", "retval=4096"}, true},
	{point{"", "pwrite64", 40}, []string{"error=EIO", "error=ENOSPC", "error=EDQUOT", "error=EINTR"}, true},
	{point{"", "fallocate", 1}, []string{"error=ENOSPC", "error=EDQUOT", "error=EIO", "error=EOPNOTSUPP"}, true},
	{point{"log/data.mdb", "pwrite64", 40}, []string{"retval=0", "retval=100"}, false},
	{point{"telemetry.db-wal", "pwrite64", 30}, []string{"error=EIO", "error=ENOSPC", "error=EDQUOT", "error=EINTR", "retval=0"}, false},
	{point{"telemetry.db-wal", "fsync", 3}, []string{"error=EIO", "error=ENOSPC", "error=EDQUOT", "error=EINTR"}, false},
	{point{"telemetry.db", "pwrite64", 6}, []string{"error=EIO", "error=ENOSPC", "error=EDQUOT", "retval=0"}, false},
	{point{"telemetry.db", "fsync", 1}, []string{"error=EIO"}, false},
}

func faultCampaign() *Campaign {
	return &Campaign{
		Name:    "faults",
		Injects: "EIO, ENOSPC, EDQUOT, EINTR or a short write in one to three writes, syncs or reservations of a thread, of the log or the archive",
		Short:   10, Long: 1000,
		Run: func(ctx context.Context, e Env) (Tally, error) { return eachTrial(ctx, e, faultTrial) },
		Controls: []Control{
			{Name: "a failed commit of the log taken for done", Replace: map[string][2]string{"sink/wal/commit.go": {
				"err := l.update(t.write)", "err := l.update(t.write)\n\terr = nil",
			}}, Setting: only("log"), Trials: 100},
			{Name: "acknowledge before the commit", Replace: e2e.EarlyAck, Setting: only("log"), Trials: 20},
			{Name: "a failed commit of the archive taken for done", Replace: map[string][2]string{"sink/archive/archive.go": {
				"return run(a.stmt.commit)", "run(a.stmt.commit)\n\treturn nil",
			}}, Setting: only("archive"), Trials: 100},
		},
	}
}

// only narrows what is broken.
func only(what string) func(*Env) { return func(e *Env) { e.Only = what } }

// fits says whether the fault concerns what the trials are narrowed to.
func (f fault) fits(only string) bool {
	return only == "" || (only == "archive") == (len(f.file) > 9 && f.file[:9] == "telemetry")
}

// faultTrial starts the service, subscribed before, into a fault.
func faultTrial(ctx context.Context, e Env, dir string, rnd *rand.Rand, t *Tally) error {
	f := faults[rnd.IntN(len(faults))]
	for !f.fits(e.Only) {
		f = faults[rnd.IntN(len(faults))]
	}
	how := f.hows[rnd.IntN(len(f.hows))]
	first, n := 1+rnd.IntN(f.most), 1+rnd.IntN(3)
	when := fmt.Sprintf("%d..%d", first, first+n-1)
	trial := fmt.Sprintf("trial %d (seed %d), %s in %s %s of %q", t.Trials, e.Seed+uint64(t.Trials), how, f.call, when, f.file)

	w, err := newWorld(e.Bin, setup{dir: dir, settings: service.Settings{CommitInterval: interval(rnd)}})
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.start(ctx); err != nil {
		return err
	}
	if _, err := w.Stop(); err != nil {
		return err
	}
	stop := w.publish(ctx)
	defer stop()
	trace := filepath.Join(dir, "trace")
	w.Wrap = inject(w.Dir, f.point, how, when)
	if f.traced {
		w.Wrap = append(e2e.Trace(trace), "-e", "inject="+f.call+":"+how+":when="+when)
		if f.call == "fallocate" {
			w.Wrap = append(w.Wrap, "-e", "trace=read,write,pwrite64,pwritev,writev,fdatasync,fallocate")
		}
	}
	if err := w.Start(); err != nil {
		return err
	}
	if err := w.endedOr(ctx, 1000); err != nil {
		return err
	}
	if err := w.afterFault(ctx, t, trial); err != nil {
		return err
	}
	stop()
	// A thread that made few calls until here meets its fault only when all has been sent.
	if err := w.drain(ctx); err != nil && ctx.Err() != nil {
		return err
	}
	if err := w.withoutFault(ctx, t, trial); err != nil {
		return err
	}
	if err := w.account(ctx, t, trial, false); err != nil {
		return err
	}
	if !f.traced {
		return nil
	}
	_, early, err := e2e.EarlyAcks(trace, w.in.Addr)
	if len(early) > 0 {
		t.Violate("%s: %d PUBACKs before the commit, such as %s", trial, len(early), early[0])
	}
	return err
}

// afterFault starts a service again that has ended with the right code.
func (w *world) afterFault(ctx context.Context, t *Tally, trial string) error {
	if !w.Ended() {
		return nil
	}
	code, err := w.Exited(ctx)
	if err != nil {
		return err
	}
	if code != exitIO {
		t.Violate("%s: exit code %d; it wrote: %s", trial, code, tail(w.Output(), 600))
	}
	w.Wrap = nil
	return w.restart(ctx)
}

// withoutFault starts the service without faults if they can still be met.
func (w *world) withoutFault(ctx context.Context, t *Tally, trial string) error {
	if w.Wrap == nil {
		return nil
	}
	if !w.Ended() {
		w.Signal(syscall.SIGTERM)
	}
	code, err := w.Exited(ctx)
	if err != nil {
		return err
	}
	if code != 0 && code != exitIO {
		t.Violate("%s: exit code %d; it wrote: %s", trial, code, tail(w.Output(), 600))
	}
	w.Wrap = nil
	return w.restart(ctx)
}

// errDown: the service does not start again, which is a finding.
var errDown = errors.New("does not start again")

// errStuck: a trial did not end in its time, which is a finding, too.
var errStuck = fmt.Errorf("stuck for %v", trialTime)

// restart is start for a service that must be able to.
func (w *world) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTime/2)
	defer cancel()
	if err := w.start(ctx); err != nil {
		return fmt.Errorf("%w: %w; it wrote: %s", errDown, err, tail(w.Output(), 1000))
	}
	return nil
}
