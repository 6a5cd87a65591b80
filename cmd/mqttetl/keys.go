package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// keys are single key strokes from a terminal.
type keys struct {
	fd    int
	saved *unix.Termios // nil: nothing was changed
}

// readKeys calls pressed for every key, without waiting for a line, if in is a
// terminal and wanted. Signals stay: Ctrl-C is still one.
func readKeys(in io.Reader, wanted bool, pressed func(byte)) keys {
	f, ok := in.(*os.File)
	if !ok || !wanted {
		return keys{}
	}
	k := keys{fd: int(f.Fd())}
	t, err := unix.IoctlGetTermios(k.fd, unix.TCGETS)
	if err != nil {
		return keys{}
	}
	saved := *t
	t.Lflag &^= unix.ICANON | unix.ECHO
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(k.fd, unix.TCSETS, t) != nil {
		return keys{}
	}
	k.saved = &saved
	go func() { // ends with the process: a read of a terminal cannot be taken back
		buf := make([]byte, 1)
		for {
			if n, err := f.Read(buf); err != nil || n == 0 {
				return
			}
			pressed(buf[0])
		}
	}()
	return k
}

// restore gives the terminal back as it was.
func (k keys) restore() {
	if k.saved != nil {
		unix.IoctlSetTermios(k.fd, unix.TCSETS, k.saved)
	}
}
