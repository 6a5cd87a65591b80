package main

import (
	"errors"
	"os"
	osexec "os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal: what a person sees and types is at keyboard,
// what a program has is at tty.
type terminal struct {
	t             *testing.T
	keyboard, tty *os.File
	seen          []byte
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, keyboard: os.NewFile(uintptr(fd), "/dev/ptmx")}
	t.Cleanup(func() { x.keyboard.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	if x.tty, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.tty.Close() })
	return x
}

// start runs a command whose controlling terminal x is. What is nil of its
// streams is x too. It and its children are killed at the end of the test.
func (x *terminal) start(cmd *osexec.Cmd) {
	x.t.Helper()
	if cmd.Stdout == nil {
		cmd.Stdout = x.tty
	}
	cmd.Stdin, cmd.Stderr = x.tty, x.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() {
		if group, err := unix.IoctlGetInt(int(x.keyboard.Fd()), unix.TIOCGPGRP); err == nil && group > 1 {
			_ = unix.Kill(-group, unix.SIGKILL) // it may have ended
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func (x *terminal) press(keys string) {
	x.t.Helper()
	if _, err := x.keyboard.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// await reads until a pattern has come, and returns what came up to its end.
func (x *terminal) await(pattern string) string {
	x.t.Helper()
	re := regexp.MustCompile(pattern)
	if err := x.keyboard.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		x.t.Fatal(err)
	}
	for buf := make([]byte, 4096); ; {
		if at := re.FindIndex(x.seen); at != nil {
			text := string(x.seen[:at[1]])
			x.seen = x.seen[at[1]:]
			return text
		}
		n, err := x.keyboard.Read(buf)
		x.seen = append(x.seen, buf[:n]...)
		if err != nil {
			x.t.Fatalf("%q does not come: %v, %q", pattern, err, x.seen)
		}
	}
}

func (x *terminal) modes() unix.Termios {
	x.t.Helper()
	modes, err := unix.IoctlGetTermios(int(x.tty.Fd()), unix.TCGETS)
	if err != nil {
		x.t.Fatal(err)
	}
	return *modes
}
