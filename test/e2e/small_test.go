package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/test/service"
)

// mostSmall is how many bytes the small build may have on amd64.
const mostSmall = 25_000_000

// TestSmallBuild: make build-small makes a program that is small, does what a
// gateway needs, and says of what it lacks that it is the small build.
func TestSmallBuild(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "mqttetl-small")
	build := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-C", "../..", "build-small", "SMALL="+bin)
	build.Env = append(os.Environ(), "GOFLAGS=") // not those of the tests
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make build-small: %v\n%s", err, out)
	}
	info, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > mostSmall {
		t.Errorf("%d bytes, want at most %d", info.Size(), mostSmall)
	}
	w := newWorld(t, bin, service.Settings{QoS: 1})
	w.start()
	said := func(want string, code int, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, bin, args...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), want) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, want, out)
		}
	}
	said("", 0, "pub", "-L", w.broker.URL+"/e2e/a", "-q", "1", "-r", "-m", "21.5")
	said("21.5\n", 0, "sub", "-L", w.broker.URL+"/e2e/a", "-q", "1", "-C", "1", "-W", "20")
	_, err = w.Drained(w.ctx, 1)
	w.must(err)
	said(`"payload": "21.5"`, 0, "query", "-c", w.Config(), "-o", "json")
	said(`"topic":"e2e/a"`, 0, "export", "-c", w.Config())
	_, err = w.Stop()
	w.must(err)
	said(`"intact": true`, 0, "verify", "-c", w.Config(), "-o", "json")
	for _, args := range [][]string{{"demo", "--duration", "1s"}, {"bench"}, {"simulate", "--help"}, {"export", "-c", w.Config(), "--out", filepath.Join(t.TempDir(), "x.parquet")}} {
		said("this is the small build of mqttetl, without ", 2, args...)
	}
}
