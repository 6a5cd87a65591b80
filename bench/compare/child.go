package compare

import (
	"bufio"
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

// child is a server that is built in, as a process of its own: this program,
// in a role. See Serve.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// ready is what a child says when it serves.
type ready struct {
	URL     string
	Monitor string
	Version string
	Config  string
}

// startChild starts command, which is this program in a role.
func startChild(command []string) (*child, ready, error) {
	var said ready
	c := &child{cmd: exec.Command(command[0], command[1:]...)}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C is not for it
	c.cmd.Stderr = os.Stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, said, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, said, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, said, fmt.Errorf("start %s: %w", strings.Join(command, " "), err)
	}
	if err := c.hear(&said); err != nil {
		c.stop()
		return nil, said, fmt.Errorf("start %s: %w", strings.Join(command, " "), err)
	}
	return c, said, nil
}

// childTime is how long a child may take to answer or to end.
const childTime = 20 * time.Second

func (c *child) hear(v any) error {
	late := time.AfterFunc(childTime, func() { c.cmd.Process.Kill() })
	defer late.Stop()
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("it says nothing: %w", err)
	}
	return json.Unmarshal(line, v)
}

// count asks the child what it has counted.
func (c *child) count() (map[string]uint64, error) {
	if _, err := io.WriteString(c.in, "count\n"); err != nil {
		return nil, err
	}
	var counted map[string]uint64
	return counted, c.hear(&counted)
}

// stop ends the child and waits for it.
func (c *child) stop() error {
	c.in.Close()
	late := time.AfterFunc(childTime, func() { c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.cmd.Wait(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s: %w", c.cmd, err)
	}
	return nil
}
