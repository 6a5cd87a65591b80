package prove

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// point is a system call at which something is injected.
type point struct {
	file string // only on this file of the service; "": on any descriptor
	call string // as strace names it; a comma list is allowed
	most int    // injected at the 1st to most-th of a thread
}

// pick chooses one of the points and one of its calls.
func pick(rnd *rand.Rand, points []point) (p point, when int) {
	p = points[rnd.IntN(len(points))]
	return p, 1 + rnd.IntN(p.most)
}

// inject is the strace command that does what to the when-th call of p of a
// thread: signal=KILL, error=EIO, … . dir is where the service's files are.
func inject(dir string, p point, what, when string) []string {
	args := []string{"strace", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=" + p.call,
		"-e", fmt.Sprintf("inject=%s:%s:when=%s", p.call, what, when)}
	if p.file != "" {
		args = append(args, "-P", filepath.Join(dir, p.file))
	}
	return args
}

// attach runs an inject command on a process that is running. done is closed
// when that process, or the tracing, has ended; stop ends the tracing.
func attach(ctx context.Context, command []string, pid int) (done <-chan struct{}, stop func(), err error) {
	cmd := exec.Command(command[0], append(command[1:], "-p", fmt.Sprint(pid))...)
	var says strings.Builder
	cmd.Stderr = &says
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	stop = func() { cmd.Process.Signal(syscall.SIGINT); <-ended }
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-ended:
			if says.Len() == 0 { // the process has reached the point already
				return ended, stop, nil
			}
			return ended, stop, fmt.Errorf("strace does not trace process %d: %s", pid, says.String())
		case <-ctx.Done():
			stop()
			return ended, stop, ctx.Err()
		case <-look.C:
			if traced(pid) {
				return ended, stop, nil
			}
		}
	}
}

// traced says whether a tracer is attached to the process.
func traced(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !strings.Contains(string(status), "TracerPid:\t0\n")
}

// needStrace says why system calls cannot be injected here.
func needStrace() string {
	if _, err := exec.LookPath("strace"); err != nil {
		return "strace is not installed: apt-get install strace"
	}
	return ""
}
