package main

import (
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// keys are single key strokes from a terminal. A nil *keys has none.
type keys struct {
	f       *os.File
	pressed func(byte)

	mu    sync.Mutex
	saved unix.Termios
	ended bool // restored
}

// readKeys calls pressed for every key, without waiting for a line, if in is a
// terminal, wanted, and ours. Signals stay: Ctrl-C is still one.
func readKeys(in io.Reader, wanted bool, pressed func(byte)) *keys {
	f, ok := in.(*os.File)
	if !ok || !wanted || !foreground(f) {
		return nil
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil
	}
	k := &keys{f: f, pressed: pressed, saved: *t}
	go k.read()
	return k
}

// foreground tells whether f is the terminal of this process, and whether its
// process group may use it now: a shell's background job that reads from the
// terminal, or changes it, is stopped.
func foreground(f *os.File) bool {
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// read waits for keys without reading, which would stop a process that has been
// put into the background meanwhile. It ends a moment after restore.
func (k *keys) read() {
	const moment = 200 * time.Millisecond
	buf := make([]byte, 1)
	for {
		ready, ended := k.look()
		switch {
		case ended:
			return
		case !ready: // what is typed is for others
			time.Sleep(moment)
			continue
		}
		poll := []unix.PollFd{{Fd: int32(k.f.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, int(moment.Milliseconds())); err != nil || n == 0 || !foreground(k.f) {
			continue
		}
		if n, err := k.f.Read(buf); err != nil || n == 0 {
			return
		}
		k.pressed(buf[0])
	}
}

// look makes the terminal give each key at once and not show it, as often as a
// shell has taken that back. It is not ready in the background.
func (k *keys) look() (ready, ended bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended || !foreground(k.f) {
		return false, k.ended
	}
	t, err := unix.IoctlGetTermios(int(k.f.Fd()), unix.TCGETS)
	if err != nil || t.Lflag&(unix.ICANON|unix.ECHO) == 0 {
		return err == nil, false
	}
	t.Lflag &^= unix.ICANON | unix.ECHO
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(int(k.f.Fd()), unix.TCSETS, t) == nil, false
}

// restore gives the terminal back as it was, if it is ours to change.
func (k *keys) restore() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
	if foreground(k.f) {
		_ = unix.IoctlSetTermios(int(k.f.Fd()), unix.TCSETS, &k.saved) // there is nothing else to try
	}
}
