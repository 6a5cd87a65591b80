package prove

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/service"
)

var (
	long     = flag.Bool("prove.long", false, "run the long form")
	seed     = flag.Uint64("prove.seed", 0, "seed to replay; 0: from the clock")
	trials   = flag.Int("prove.trials", 0, "trials of each campaign; 0: as many as it says")
	campaign = flag.String("prove.campaign", "", "comma list of the campaigns to run; empty: all")
	soak     = flag.Duration("prove.soak", 0, "how long the soak runs; 0: as long as it says")
	report   = flag.String("prove.report", "", "directory in which to write reliability.md")
)

// TestMain runs the tests of root in a mount namespace of their own: what they
// mount is gone with them, however they end.
func TestMain(m *testing.M) {
	const inside = "MQTTETL_PROVE_MOUNTS"
	if os.Getuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is of the thread
	err := cmd.Run()
	if cmd.ProcessState == nil { // may not: then neither may the campaigns mount, and they say so
		os.Exit(m.Run())
	}
	if err != nil {
		os.Exit(max(1, cmd.ProcessState.ExitCode()))
	}
}

// TestCampaigns runs every campaign with a control, or with -prove.long all of them.
func TestCampaigns(t *testing.T) {
	dir := t.TempDir()
	bin, err := service.Build(context.Background(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := Plan{Bin: bin, Dir: dir, Long: *long, Trials: *trials, Seed: *seed}
	if p.Seed == 0 {
		p.Seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", p.Seed)
	var mu sync.Mutex
	var ran []*Result
	chosen := choose(t, *campaign)
	t.Run("group", func(t *testing.T) {
		for _, c := range chosen {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				p := p
				p.Log = t.Logf
				if *soak > 0 && c.Name == "soak" {
					p.Trials = max(1, int(*soak/soakPeriod))
				}
				r, err := c.Prove(context.Background(), p)
				mu.Lock()
				ran = append(ran, r)
				mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if r.Without != "" {
					t.Logf("SKIPPED: campaign %s runs without %s", c.Name, r.Without)
				}
				if r.Skipped != "" {
					t.Skipf("SKIPPED: campaign %s: %s", c.Name, r.Skipped)
				}
			})
		}
	})
	if *report != "" {
		if err := WriteReport(*report, ran); err != nil {
			t.Fatal(err)
		}
	}
}

// choose returns the campaigns of a comma list.
func choose(t *testing.T, names string) []*Campaign {
	if names == "" {
		return Campaigns
	}
	var chosen []*Campaign
	for name := range strings.SplitSeq(names, ",") {
		i := position(name)
		if i < 0 {
			t.Fatalf("no campaign %q", name)
		}
		chosen = append(chosen, Campaigns[i])
	}
	return chosen
}

// TestReport: the document is what its results say, and every campaign has a
// name of its own, trials and a control.
func TestReport(t *testing.T) {
	docs := filepath.Join("..", "..", "docs")
	rows, err := ReadResults(filepath.Join(docs, "reliability.json"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(docs, "reliability.md")); err != nil || string(text) != Report(rows) {
		t.Errorf("docs/reliability.md is not what make prove writes from its results (%v)", err)
	}
	var names []string
	for _, c := range Campaigns {
		if c.Name == "" || slices.Contains(names, c.Name) || c.Short < 1 || c.Long < c.Short || len(c.Controls) == 0 {
			t.Errorf("campaign %q: name, trials or control missing", c.Name)
		}
		names = append(names, c.Name)
	}
}

// TestControlsApply: the source still holds what the controls replace.
func TestControlsApply(t *testing.T) {
	for _, c := range Campaigns {
		for _, control := range c.Controls {
			for file, change := range control.Replace {
				src, err := os.ReadFile(filepath.Join("..", "..", file))
				if n := strings.Count(string(src), change[0]); err != nil || n != 1 {
					t.Errorf("campaign %s, control %q: %s holds %q %d times (%v)", c.Name, control.Name, file, change[0], n, err)
				}
			}
		}
	}
}
