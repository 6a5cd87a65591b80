package main

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

// patience bounds every wait for something that another process does.
const patience = 5 * time.Minute

// A child is a role that runs as a process of its own.
type child struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	said bytes.Buffer // on standard error
}

// startRole starts a role. It is killed when ctx ends.
func startRole(ctx context.Context, name string, parameters any) (*child, error) {
	p, err := json.Marshal(parameters)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{name: name, cmd: exec.CommandContext(ctx, self, "role", name, string(p))}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.Stderr = &c.said
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

// hear waits for the next thing that the role says and decodes it into v. A
// role that says nothing for too long is killed.
func (c *child) hear(v any) error {
	late := time.AfterFunc(patience, func() { c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.out.Decode(v); err != nil {
		c.cmd.Process.Kill()
		c.cmd.Wait() // collects what it said, and its end is known
		return fmt.Errorf("%s: %s: %w", c.name, strings.TrimSpace(c.said.String()), err)
	}
	return nil
}

// begin tells the role to begin.
func (c *child) begin() error {
	_, err := io.WriteString(c.in, "go\n")
	return err
}

// deliver tells a role that delivers to begin and waits until it is done.
func (c *child) deliver() (d delivered, err error) {
	if err := c.begin(); err != nil {
		return d, err
	}
	err = c.hear(&d)
	return d, err
}

// observe measures processor time and memory of the role while do runs.
func (c *child) observe(n int, do func() error) (m measurement, err error) {
	m.Messages = n
	before, err := processTime(c.cmd.Process.Pid)
	if err != nil {
		return m, err
	}
	memory := watchMemory(c.cmd.Process.Pid)
	err = do()
	m.Peak = float64(memory.end())
	if err != nil {
		return m, err
	}
	after, err := processTime(c.cmd.Process.Pid)
	m.CPU = (after - before).Seconds() / float64(n)
	return m, err
}

// stop ends the role and waits for it.
func (c *child) stop() error {
	c.in.Close()
	if c.cmd.ProcessState != nil {
		return nil
	}
	late := time.AfterFunc(10*time.Second, func() { c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %s: %w", c.name, strings.TrimSpace(c.said.String()), err)
	}
	return nil
}

// kill ends the role without asking. It may be called after stop.
func (c *child) kill() {
	if err := c.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
		c.cmd.Wait()
	}
}
