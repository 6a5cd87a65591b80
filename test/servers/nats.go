package servers

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// natsReady bounds how long a NATS server may take until it answers.
const natsReady = 20 * time.Second

// ErrNoNATS: there is no nats-server on this machine.
var ErrNoNATS = errors.New("nats-server is not installed: apt-get install nats-server")

// NATSProcess is a nats-server as a process of its own, on one port and store
// for its whole life, so that it can be killed and started again.
type NATSProcess struct {
	binary string
	conf   string
	addr   string
	log    string // file with what the server prints

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// StartNATSProcess starts the nats-server found in PATH on a free loopback
// port, with its configuration and store in dir. extraConf is added to the
// configuration.
func StartNATSProcess(dir, extraConf string) (*NATSProcess, error) {
	binary, err := findNATS()
	if err != nil {
		return nil, err
	}
	n, err := newNATSProcess(binary, dir, extraConf)
	if err != nil {
		return nil, err
	}
	return n, n.Restart()
}

// newNATSProcess writes the configuration and starts nothing.
func newNATSProcess(binary, dir, extraConf string) (*NATSProcess, error) {
	addr, err := FreeAddr()
	if err != nil {
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	n := &NATSProcess{binary: binary, conf: filepath.Join(dir, "nats.conf"), addr: addr, log: filepath.Join(dir, "nats.log")}
	conf := fmt.Sprintf("listen: %q\njetstream { store_dir: %q }\n%s\n", addr, filepath.Join(dir, "store"), extraConf)
	if err := os.WriteFile(n.conf, []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("start nats-server: %w", err)
	}
	return n, nil
}

// URL is where the server listens.
func (n *NATSProcess) URL() string { return "nats://" + n.addr }

// Addr is the host:port of URL.
func (n *NATSProcess) Addr() string { return n.addr }

// Stop ends the server as its service would be stopped and waits for it.
func (n *NATSProcess) Stop() error { return n.end(os.Interrupt) }

// Kill ends the server by SIGKILL and waits for it.
func (n *NATSProcess) Kill() error { return n.end(os.Kill) }

func (n *NATSProcess) end(sig os.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return nil
	}
	if err := n.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end nats-server: %w", err)
	}
	<-n.done
	n.cmd = nil
	return nil
}

// Restart starts the server again after Stop or Kill, on the same port and store.
func (n *NATSProcess) Restart() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		return errors.New("restart nats-server: it is running")
	}
	out, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start nats-server: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(n.binary, "-c", n.conf)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start nats-server: %w", err)
	}
	n.cmd, n.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		cmd.Wait()
		close(done)
	}(n.done)
	if err := n.ready(); err != nil {
		cmd.Process.Kill()
		<-n.done
		n.cmd = nil
		return err
	}
	return nil
}

// ready waits until the server greets a client.
func (n *NATSProcess) ready() error {
	deadline := time.After(natsReady)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		err := greeted(n.addr)
		if err == nil {
			return nil
		}
		select {
		case <-n.done:
			return fmt.Errorf("nats-server ended at once: %s", n.printed())
		case <-deadline:
			return fmt.Errorf("nats-server not ready after %v: %w: %s", natsReady, err, n.printed())
		case <-poll.C:
		}
	}
}

// printed is what the server has printed so far.
func (n *NATSProcess) printed() []byte {
	b, err := os.ReadFile(n.log)
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(b)
}

// greeted connects and reads the first line, which is INFO.
func greeted(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(time.Second))
	_, err = bufio.NewReader(c).ReadString('\n')
	return err
}

// findNATS looks in the sbin directories too, where Debian puts it and which an
// ordinary user's PATH lacks.
func findNATS() (string, error) {
	for _, name := range []string{"nats-server", "/usr/sbin/nats-server", "/usr/local/sbin/nats-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoNATS
}
