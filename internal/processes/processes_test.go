package processes

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestListening(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "mqtt://" + l.Addr().String()
	if pid := Listening(url); pid != os.Getpid() {
		t.Errorf("process %d listens at %s, want %d", pid, url, os.Getpid())
	}
	if self, err := os.Executable(); err != nil || Program(os.Getpid()) != self {
		t.Errorf("program %s, want %s, %v", Program(os.Getpid()), self, err)
	}
	l.Close()
	for _, url := range []string{url, "mqtt://203.0.113.1:1883", "no URL", "mqtt://127.0.0.1"} {
		if pid := Listening(url); pid != 0 {
			t.Errorf("process %d listens at %s, want none", pid, url)
		}
	}
}

func TestWithOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	other := exec.Command("sleep", "60")
	other.Stdin = file
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	if got := WithOpen(path); !slices.Equal(got, []int{other.Process.Pid}) { // not this process
		t.Errorf("open in %v, want %d", got, other.Process.Pid)
	}
	if got, want := Names([]int{other.Process.Pid}), fmt.Sprintf("process %d (sleep 60)", other.Process.Pid); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := Names(make([]int, 7)); !strings.HasSuffix(got, ", 2 more") {
		t.Errorf("seven processes: %q", got)
	}
}
