package main

import (
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Calls that the unit refuses and that do no harm when refused: Go raises the
// limit of open files at the start if it may (the unit sets it anyway), and
// SQLite gives its files to the owner of the database, but only as root.
var harmless = []string{"prlimit64", "setrlimit", "fchown"}

// The unit lets the service make only certain system calls. This traces a run
// with broker, stores and stream and looks each call up.
func TestUnitAllowsEverySystemCallOfTheService(t *testing.T) {
	t.Parallel()
	for _, c := range []string{"strace", "systemd-analyze"} {
		if _, err := osexec.LookPath(c); err != nil {
			t.Fatalf("%s is missing: apt-get install strace systemd", c)
		}
	}
	allowed := callsOf(t, "@system-service")
	for _, group := range []string{"@privileged", "@resources"} {
		for call := range callsOf(t, group) {
			delete(allowed, call)
		}
	}
	w := newWorld(t)
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, string(text)+"routes: [{name: jq, topic: '#', map: '{x: .}', table: jq, columns: {x: ANY}}]\n")
	trace := filepath.Join(t.TempDir(), "trace")
	self := plainBuild(t)
	traced := osexec.Command("strace", "-f", "-qq", "-o", trace, self, "run", "-c", w.config)
	traced.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := traced.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- traced.Wait() }()
	defer func() { syscall.Kill(-traced.Process.Pid, syscall.SIGTERM); <-ended }() // strace passes nothing on
	w.awaitReady(t)
	w.publish(t, 50)
	eventually(t, "50 records are everywhere", func() bool {
		s := w.asked(t)
		return s.Archive.Cursor == 50 && s.NATS.Cursor == 50
	})
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +([a-z_0-9]+)\(`).FindAllStringSubmatch(string(b), -1) {
		seen[m[1]] = true
	}
	if !seen["fdatasync"] || !seen["epoll_pwait"] || !strings.Contains(string(b), "RLIMIT_AS") {
		t.Fatalf("the trace shows no work: %v", seen)
	}
	for call := range seen {
		if !allowed[call] && !slices.Contains(harmless, call) {
			t.Errorf("the unit does not allow %s", call)
		}
	}
}

// callsOf are the system calls of a set that systemd knows, its subsets included.
func callsOf(t *testing.T, set string) map[string]bool {
	t.Helper()
	out, err := osexec.Command("systemd-analyze", "syscall-filter", set).Output()
	if err != nil {
		t.Fatalf("systemd-analyze syscall-filter %s: %v", set, err)
	}
	calls := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		switch name := strings.TrimSpace(line); {
		case name == "" || name == set || strings.HasPrefix(name, "#"):
		case strings.HasPrefix(name, "@"):
			for call := range callsOf(t, name) {
				calls[call] = true
			}
		default:
			calls[name] = true
		}
	}
	return calls
}

// plainBuild builds the program as it is installed, without what tests add.
func plainBuild(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mqttetl")
	if out, err := osexec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}
