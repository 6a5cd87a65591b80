package main

import (
	"io"
	osexec "os/exec"
	"strings"
	"testing"
)

// Space pauses and goes on, q quits, and the terminal is left as it was.
func TestReplayKeys(t *testing.T) {
	t.Parallel()
	path, x := archiveOf(t, minute()), newTerminal(t)
	before := x.modes()
	p := prepare(t, nil, "replay", "--to", "-", "--archive", path)
	p.Stdout = io.Discard
	x.start(p.Cmd)
	x.await(`\d messages`)
	x.press(" ")
	x.await("paused")
	x.press(" ")
	x.await(`\x1b\[K\d+ messages`)
	x.press("q")
	x.await(`selected \d+ = sent \d+, confirmed \d+`)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if after := x.modes(); after != before {
		t.Errorf("the terminal was %+v, is %+v", before, after)
	}
}

// A replay in the background is not stopped, and reads nothing from the terminal,
// whether it was begun there or has been put there.
func TestReplayInTheBackground(t *testing.T) {
	t.Parallel()
	path := archiveOf(t, minute())
	for name, script := range map[string]string{
		"begun there": `set -m; "$@" >/dev/null & wait %1; echo code $?`,
		"put there":   `set -m; "$@" >/dev/null; bg; wait %1; echo code $?`,
	} {
		t.Run(name, func(t *testing.T) {
			x := newTerminal(t)
			before := x.modes()
			p := prepare(t, nil, "replay", "--to", "-", "--archive", path, "--speed", "20")
			shell := osexec.Command("sh", append([]string{"-c", script, "sh"}, p.Args...)...)
			shell.Env = p.Env
			x.start(shell)
			x.await(`\d messages`)
			if strings.Contains(script, "bg") {
				x.press("\x1a") // Ctrl-Z
				x.await(`\d messages`)
			} else if during := x.modes(); during != before {
				t.Errorf("the terminal was %+v, is %+v", before, during)
			}
			x.press("q\n")
			x.await(`selected 3001 = sent 3001, confirmed 3001`)
			x.await("code 0")
		})
	}
}
