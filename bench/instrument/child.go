package instrument

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A Child is this program again, in a role, as a process of its own. Both speak
// JSON lines.
type Child struct {
	name     string
	patience time.Duration // how long it may say nothing
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *json.Decoder
	said     bytes.Buffer // on standard error
}

// StartChild starts command, which is this program in the role of that name. It is
// killed when ctx ends, or when it says nothing for longer than patience.
func StartChild(ctx context.Context, name string, patience time.Duration, command ...string) (*Child, error) {
	c := &Child{name: name, patience: patience, cmd: exec.CommandContext(ctx, command[0], command[1:]...)}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C is not for it
	c.cmd.Stderr = &c.said
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = json.NewDecoder(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

// PID is the number of the process.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Hear waits for the next thing that the role says and decodes it into v. A role
// that says nothing for too long is killed.
func (c *Child) Hear(v any) error {
	late := time.AfterFunc(c.patience, func() { c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.out.Decode(v); err != nil {
		c.cmd.Process.Kill()
		c.cmd.Wait() // collects what it said, and its end is known
		return c.failed(err)
	}
	return nil
}

func (c *Child) failed(err error) error {
	return fmt.Errorf("%s: %s: %w", c.name, strings.TrimSpace(c.said.String()), err)
}

// Tell sends the role a line.
func (c *Child) Tell(line string) error {
	_, err := io.WriteString(c.in, line+"\n")
	return err
}

// Stop ends the role and waits for it.
func (c *Child) Stop() error {
	c.in.Close()
	if c.cmd.ProcessState != nil {
		return nil
	}
	late := time.AfterFunc(min(c.patience, stopTime), func() { c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.cmd.Wait(); err != nil {
		return c.failed(err)
	}
	return nil
}

// stopTime is how long a role may take to end.
const stopTime = 20 * time.Second

// Kill ends the role without asking. It may be called after Stop.
func (c *Child) Kill() {
	if err := c.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		c.cmd.Wait()
	}
}
