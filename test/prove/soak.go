package prove

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

// soakPeriod is one trial of the soak: load, one fault, and a look at everything
// that must not grow.
const soakPeriod = 5 * time.Second

const soakRate = 2000 // messages a second

func soakCampaign() *Campaign {
	return &Campaign{
		Name:    "soak",
		Injects: fmt.Sprintf("%d msg/s, every %v one of: a connection cut, NATS killed, the broker restarted, a silent network; memory, descriptors, goroutines, log and write-ahead log must stay flat", soakRate, soakPeriod),
		Short:   6, Long: 120,
		Run: soakRun,
		Controls: []Control{
			{Name: "a leak of 16 KiB a commit", Replace: map[string][2]string{"sink/wal/commit.go": {
				"n, err := l.commitWhenRoom(ctx, group)",
				"leak := make([]byte, 16<<10)\n\tfor i := range leak {\n\t\tleak[i] = 1\n\t}\n\tleaked = append(leaked, leak)\n\tn, err := l.commitWhenRoom(ctx, group)\n",
			}, "sink/wal/queue.go": {
				"// groupSize bounds", "var leaked [][]byte\n\n// groupSize bounds",
			}}, Trials: 12},
			{Name: "a log that is never trimmed", Replace: map[string][2]string{"sink/wal/transaction.go": {
				"if t.past <= t.trimmedTo", "if true || t.past <= t.trimmedTo",
			}}, Trials: 12},
		},
	}
}

// gauge is something that must stay flat, and by how much it may differ.
type gauge struct {
	name  string
	slack int // beside a tenth of what it was
	read  func(ctx context.Context, w *world) (int, error)
}

var gauges = []gauge{
	{"bytes of anonymous memory", 8 << 20, func(_ context.Context, w *world) (int, error) { return rssAnon(w.Pid()), nil }},
	{"open descriptors", 4, func(_ context.Context, w *world) (int, error) {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.Pid()))
		return len(fds), err
	}},
	{"goroutines", 10, func(ctx context.Context, w *world) (int, error) { return w.metric(ctx, "go_goroutines") }},
	{"bytes of the log's live pages", 1 << 20, func(ctx context.Context, w *world) (int, error) { return w.metric(ctx, "mqttetl_log_bytes") }},
	{"bytes of the log's file", 8 << 20, func(_ context.Context, w *world) (int, error) {
		return size(filepath.Join(w.LogDir(), "data.mdb")), nil
	}},
	{"bytes of the archive's write-ahead log", 32 << 20, func(_ context.Context, w *world) (int, error) { return size(w.Archive() + "-wal"), nil }},
}

// size of a file; 0 if there is none.
func size(path string) int {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return int(st.Size())
}

// metric is one of the service's metrics without labels.
func (w *world) metric(ctx context.Context, name string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.HTTP+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return int(f), err
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// soakRun is one world for all trials.
func soakRun(ctx context.Context, e Env) (t Tally, err error) {
	w, err := newWorld(e.Bin, setup{dir: e.Dir, settings: service.Settings{KeepAlive: networkKeepAlive}})
	if err != nil {
		return t, err
	}
	defer w.close()
	w.pub.Rate = soakRate
	w.in.SetTap(nil) // what has passed is checked and forgotten
	books := newLedger(w)
	if err := w.start(ctx); err != nil {
		return t, err
	}
	stop := w.publish(ctx)
	defer stop()
	history := make([][]int, len(gauges))
	defer func() {
		for i, g := range gauges {
			e.Log("%s: %v", g.name, history[i])
		}
	}()
	for i := 0; e.More(&t); i++ {
		if err := w.soakTrial(ctx, e.Trial(i), history); err != nil {
			return t, fmt.Errorf("trial %d (seed %d): %w; it wrote: %s", i, e.Seed+uint64(i), err, tail(w.Output(), 1000))
		}
		t.Trials++
		if t.Trials%3 == 0 {
			flat(&t, history)
		}
		if err := books.balance(ctx, &t); err != nil {
			return t, err
		}
	}
	stop()
	if err := w.drain(ctx); err != nil {
		t.Violate("soak: %v; it wrote: %s", err, tail(w.Output(), 1000))
	}
	return t, errors.Join(books.balance(ctx, &t), books.close(&t))
}

// soakTrial is one period: a fault, recovery, and a look at the gauges.
func (w *world) soakTrial(ctx context.Context, rnd *rand.Rand, history [][]int) error {
	over := time.After(soakPeriod)
	if err := w.more(ctx, 1+rnd.IntN(soakRate)); err != nil {
		return err
	}
	switch rnd.IntN(5) {
	case 0:
		w.in.Cut()
	case 1:
		w.out.Cut()
	case 2:
		if err := w.nats.Kill(); err != nil {
			return err
		}
		if err := w.nats.Restart(); err != nil {
			return err
		}
	case 3:
		if err := w.broker.Stop(); err != nil {
			return err
		}
		if err := w.broker.Restart(); err != nil {
			return err
		}
	case 4:
		spell(ctx, w.out, rnd, servers.Weather{HoldUp: true, HoldDown: true}, nil)
	}
	select {
	case <-over:
	case <-ctx.Done():
		return ctx.Err()
	}
	recover, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if _, err := w.Await(recover, "has caught up", func(s service.Status) bool {
		return s.Ready && s.Archive.Lag < soakRate && s.NATS.Lag < soakRate
	}); err != nil {
		return err
	}
	for i, g := range gauges {
		n, err := g.read(ctx, w)
		if err != nil {
			return err
		}
		history[i] = append(history[i], n)
	}
	return nil
}

// flat notes what has grown: the middle value of the last third against that of
// the second; the first is spent on warming up.
func flat(t *Tally, history [][]int) {
	for i, g := range gauges {
		n := len(history[i]) / 3
		was, is := median(history[i][n:2*n]), median(history[i][2*n:])
		if is > was+was/10+g.slack {
			t.Violate("trial %d: %s grew from %d to %d", t.Trials, g.name, was, is)
		}
	}
}

func median(values []int) int {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
