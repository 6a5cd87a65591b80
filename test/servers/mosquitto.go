package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// startTime is how long a server may take until it accepts connections.
const startTime = 10 * time.Second

// ErrNoMosquitto: there is no mosquitto on this machine.
var ErrNoMosquitto = errors.New("mosquitto not found: apt-get install mosquitto mosquitto-clients")

// Mosquitto is a mosquitto process.
type Mosquitto struct {
	Addr string // host:port; the same after Restart
	URL  string // mqtt://host:port
	Log  string // path of the file with its log

	program   string
	config    string
	listeners []string // host:port of each
	cmd       *exec.Cmd
	exited    chan error
}

// StartMosquitto starts mosquitto with its configuration, log and database in
// dir. extra are further lines of its configuration, one setting a line; they
// follow the listener, so that cafile, protocol and the like belong to it.
// Everyone may connect unless extra says otherwise with allow_anonymous.
func StartMosquitto(dir, extra string) (*Mosquitto, error) {
	program, err := findMosquitto()
	if err != nil {
		return nil, err
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	m := &Mosquitto{
		Addr: addr, URL: "mqtt://" + addr,
		Log:     filepath.Join(dir, "mosquitto.log"),
		program: program,
		config:  filepath.Join(dir, "mosquitto.conf"),
	}
	lines, err := mosquittoConf(addr, dir, extra)
	if err != nil {
		return nil, err
	}
	for _, l := range regexp.MustCompile(`(?m)^listener ([1-9]\d*) (\S+)`).FindAllStringSubmatch(lines, -1) {
		m.listeners = append(m.listeners, net.JoinHostPort(l[2], l[1]))
	}
	if err := os.WriteFile(m.config, []byte(lines), 0o600); err != nil {
		return nil, fmt.Errorf("start mosquitto: %w", err)
	}
	return m, m.Restart()
}

// mosquittoConf is the configuration for a listener at addr.
func mosquittoConf(addr, dir, extra string) (string, error) {
	me, err := user.Current() // started as root, mosquitto would become another user
	if err != nil {
		return "", fmt.Errorf("start mosquitto: %w", err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("start mosquitto: %w", err)
	}
	lines := []string{
		"user " + me.Username,
		"persistence_location " + dir + "/",
		"set_tcp_nodelay true",
		"listener " + port + " " + host,
	}
	if !strings.Contains(extra, "allow_anonymous") {
		lines = append(lines, "allow_anonymous true")
	}
	return strings.Join(append(lines, extra, ""), "\n"), nil
}

// findMosquitto looks in the sbin directories too, which an ordinary user's
// PATH lacks.
func findMosquitto() (string, error) {
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoMosquitto
}

// Restart starts the process again, on the same address and with the same
// files, after Stop or Kill.
func (m *Mosquitto) Restart() error {
	out, err := os.OpenFile(m.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start mosquitto: %w", err)
	}
	defer out.Close()
	m.cmd = exec.Command(m.program, "-c", m.config)
	m.cmd.Stdout, m.cmd.Stderr = out, out
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return fmt.Errorf("start mosquitto: %w", err)
	}
	m.exited = make(chan error, 1)
	go func() { m.exited <- m.cmd.Wait() }()
	if err := m.accepts(); err != nil {
		_ = m.Kill()
		return err
	}
	return nil
}

// accepts waits until the process takes connections on every listener: it opens
// them one after the other.
func (m *Mosquitto) accepts() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for _, addr := range m.listeners {
		if err := m.acceptsOn(ctx, addr); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mosquitto) acceptsOn(ctx context.Context, addr string) error {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		var d net.Dialer
		if c, err := d.DialContext(ctx, "tcp", addr); err == nil {
			return c.Close()
		}
		select {
		case err := <-m.exited:
			m.exited <- err
			log, _ := os.ReadFile(m.Log)
			return fmt.Errorf("mosquitto ended at once: %w: %s", err, log)
		case <-ctx.Done():
			return fmt.Errorf("mosquitto does not listen on %s: %w", addr, ctx.Err())
		case <-again.C:
		}
	}
}

// Stop ends the process with SIGTERM, at which it saves what it persists.
func (m *Mosquitto) Stop() error { return m.end(syscall.SIGTERM) }

// Kill ends the process with SIGKILL.
func (m *Mosquitto) Kill() error { return m.end(syscall.SIGKILL) }

// end sends the signal and waits. An ended process is none to complain about.
func (m *Mosquitto) end(s syscall.Signal) error {
	if err := m.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end mosquitto: %w", err)
	}
	err := <-m.exited
	m.exited <- err // for a further call
	return nil
}
