package service

import (
	"bytes"
	"errors"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is one run of a program. It ends with the process that has started it.
type Process struct {
	*exec.Cmd
	done chan struct{}
}

// Command is a Process that can still be changed as any exec.Cmd, and started.
func Command(name string, args ...string) *Process {
	p := &Process{Cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return p
}

// Start starts the process.
func (p *Process) Start() error {
	if err := p.Cmd.Start(); err != nil {
		return err
	}
	go func() { _ = p.Cmd.Wait(); close(p.done) }() // ProcessState has it
	return nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended says whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the process and to those that it has started.
func (p *Process) Signal(s syscall.Signal) {
	pid := p.Process.Pid
	if a := p.SysProcAttr; a.Setpgid || a.Setsid {
		pid = -pid // of the group
	}
	_ = syscall.Kill(pid, s) // or it has ended
}

// Kill ends the process, and those that it has started, with SIGKILL. It may have
// ended before.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// stopTime is how long a process may take to end.
const stopTime = 10 * time.Second

// Stop ends the process with SIGTERM and says how long that took. An exit code
// other than 0 is an error.
func (p *Process) Stop() (time.Duration, error) {
	begun := time.Now()
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTime):
		p.Kill()
		return time.Since(begun), errors.New("does not stop on SIGTERM")
	}
	if !p.ProcessState.Success() {
		return time.Since(begun), errors.New(p.ProcessState.String())
	}
	return time.Since(begun), nil
}

// Output collects what processes write.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String is all that was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
