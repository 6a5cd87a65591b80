//go:build cross

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/test/service"
)

// emulated is a program for arm64 under an emulator that the kernel knows nothing
// of: /proc/self/exe is then the emulator.
func emulated(program string, args ...string) *exec.Cmd {
	return exec.Command("qemu-aarch64", append([]string{"-L", "/usr/aarch64-linux-gnu", program}, args...)...)
}

// forArm64 has the go command build for arm64 until the test ends.
func forArm64(t *testing.T) {
	t.Setenv("GOFLAGS", "") // of the tests
	for key, value := range map[string]string{"GOOS": "linux", "GOARCH": "arm64", "CGO_ENABLED": "1", "CC": "aarch64-linux-gnu-gcc"} {
		t.Setenv(key, value)
	}
}

// The tests of the log that start no other process and mount nothing.
const logTests = "^Test(Damage|DamagedDatabases|DamagedEnd|DamagedFile|VerifyForeignPosition|VerifyNothing|InterruptedCreation|ReadAfterPanicIsIOError|FailedCommitIsIOError|FilesWithoutNumbers|" +
	"Interval|IntervalEnds|IntervalAtRandom|LockLeavesTheFilesOfOthers|Model|ReaderReadsWhatIsThere|NotesChangeWithTheirBatch|StopIsNoError)$"

// TestLogOnArm64 runs tests of the log there.
func TestLogOnArm64(t *testing.T) {
	forArm64(t)
	bin, err := service.BuildTest(t.Context(), t.TempDir(), "./sink/wal", nil)
	if err != nil {
		t.Fatal(err)
	}
	cmd := emulated(bin, "-test.run", logTests, "-test.v")
	cmd.Dir = "../../sink/wal"
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "\n--- PASS: ") <= strings.Count(logTests, "|") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestArm64 builds for another machine as docs/operate.md says, and runs the pipeline there.
// What it wrote is read here, and the reverse.
func TestArm64(t *testing.T) {
	dir := t.TempDir()
	forArm64(t)
	bin, err := service.Build(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"GOOS", "GOARCH", "CGO_ENABLED", "CC"} {
		os.Unsetenv(key)
	}
	native, err := service.Build(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := emulated(bin, "demo", "--duration", "3s", "--devices", "20", "--rate", "200", "--dir", filepath.Join(dir, "demo")).Output()
	if err != nil || !regexp.MustCompile(`published ([1-9]\d*) = acknowledged \d+ = archived \d+ = forwarded \d+\n`).Match(out) {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	config := filepath.Join(dir, "c.yaml")
	text := `sources: [{url: "mqtt://127.0.0.1:1", subscribe: ["#"]}]` + "\nlog: {dir: " + dir + "/demo/log, max_size: 1GiB}\narchive: {path: " + dir + "/demo/telemetry.db}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := filepath.Join(dir, "in.ndjson")
	if err := os.WriteFile(lines, []byte(`{"topic":"a","payload":"x","time":"2026-01-02T03:04:05Z"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := []string{"verify", "-c", config, "-o", "json"}
	for _, c := range []struct {
		name string
		cmd  *exec.Cmd
		want string
	}{
		{"verify there", emulated(bin, verify...), `"intact": true`},
		{"verify here", exec.Command(native, verify...), `"intact": true`},
		{"import here", exec.Command(native, "import", "-c", config, lines), "imported 1 line"},
		{"import there", emulated(bin, "import", "-c", config, lines), "imported 1 line"},
		{"verify there again", emulated(bin, verify...), `"intact": true`},
	} {
		out, err := c.cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
}
