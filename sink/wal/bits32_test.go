package wal

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A build for 32 bits ends with one sentence that says why.
func TestBuildFor32BitsIsRefused(t *testing.T) {
	if list, err := exec.Command("go", "list", "-f", "{{.CgoFiles}}", ".").Output(); err != nil || strings.Contains(string(list), "bits32.go") {
		t.Fatalf("part of a build for 64 bits: %s, %v", list, err)
	}
	for _, arch := range []string{"386", "arm", "mips", "mipsle"} {
		list := exec.Command("go", "list", "-f", "{{.CgoFiles}}", ".")
		list.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=1")
		if out, err := list.Output(); err != nil || !strings.Contains(string(out), "bits32.go") {
			t.Errorf("not part of a build for %s: %s, %v", arch, out, err)
		}
	}
	cgo := exec.Command("go", "tool", "cgo", "-objdir", t.TempDir(), "bits32.go")
	cgo.Env = append(os.Environ(), "GOARCH=386")
	const want = "mqttetl needs a 64-bit machine: the log is mapped into the address space as a whole"
	if out, err := cgo.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: %s, want %q", err, out, want)
	}
}
