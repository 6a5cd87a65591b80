package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Program is a server as a process of its own.
type Program struct {
	Addr string // host:port
	URL  string // mqtt://host:port
	Log  string // path of the file with what it prints

	cmd    *exec.Cmd
	exited chan struct{}
	also   *Program // started for it, and ended with it
}

// start runs cmd with its output in log and waits until addr takes connections.
func start(cmd *exec.Cmd, addr, log string, within time.Duration) (*Program, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &Program{Addr: addr, URL: "mqtt://" + addr, Log: log, cmd: cmd, exited: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.exited) }()
	if err := p.accepts(within); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

func (p *Program) accepts(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if c, err := new(net.Dialer).DialContext(ctx, "tcp", p.Addr); err == nil {
			return c.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended at once: %s", filepath.Base(p.cmd.Path), p.printed())
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w: %s", filepath.Base(p.cmd.Path), p.Addr, ctx.Err(), p.printed())
		case <-again.C:
		}
	}
}

func (p *Program) printed() []byte {
	b, _ := os.ReadFile(p.Log)
	return b[max(0, len(b)-4096):]
}

// Kill ends the process, and those it has started, with SIGKILL.
func (p *Program) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // or it has ended by itself
	<-p.exited
	if p.also != nil {
		p.also.Kill()
	}
}

// aedesScript serves MQTT 3.1.1 over TCP and WebSocket.
const aedesScript = `
const { createServer } = require('net')
const http = require('http')
const { WebSocketServer, createWebSocketStream } = require('ws')
const { Aedes } = require('aedes')
const [tcp, ws] = process.argv.slice(2)
Aedes.createBroker().then(broker => {
  const server = http.createServer()
  new WebSocketServer({ server }).on('connection', (s, req) => {
    const stream = createWebSocketStream(s)
    stream.on('error', () => {})
    broker.handle(stream, req)
  })
  server.listen(Number(ws), '127.0.0.1', () => createServer(broker.handle).listen(Number(tcp), '127.0.0.1'))
})
`

// StartAedes starts the npm package aedes under Node, with its files in dir.
// modules is the directory node_modules that holds aedes and ws.
func StartAedes(dir, modules string) (p *Program, webSocketURL string, err error) {
	if _, err := os.Stat(filepath.Join(modules, "aedes")); err != nil {
		return nil, "", fmt.Errorf("aedes is not installed (make test-brokers installs it): %w", err)
	}
	script := filepath.Join(dir, "aedes.cjs")
	if err := os.WriteFile(script, []byte(aedesScript), 0o600); err != nil {
		return nil, "", fmt.Errorf("start aedes: %w", err)
	}
	tcp, err := FreeAddr()
	if err != nil {
		return nil, "", err
	}
	ws, err := FreeAddr()
	if err != nil {
		return nil, "", err
	}
	_, tcpPort, _ := net.SplitHostPort(tcp)
	_, wsPort, _ := net.SplitHostPort(ws)
	cmd := exec.Command("node", script, tcpPort, wsPort)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	p, err = start(cmd, tcp, filepath.Join(dir, "aedes.log"), startTime)
	return p, "ws://" + ws + "/mqtt", err
}

// ErrNoRabbitMQ: there is no RabbitMQ on this machine.
var ErrNoRabbitMQ = errors.New("RabbitMQ not found: apt-get install rabbitmq-server")

// slowTime is how long a broker in Erlang or Java may take to start.
const slowTime = 90 * time.Second

// rabbitProgram is Debian's script that does not change the user.
const rabbitProgram = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// StartRabbitMQ starts RabbitMQ with its MQTT plugin, all its files in dir.
func StartRabbitMQ(dir string) (*Program, error) {
	if _, err := os.Stat(rabbitProgram); err != nil {
		return nil, ErrNoRabbitMQ
	}
	var addrs, ports [4]string
	for i := range addrs {
		addr, err := FreeAddr()
		if err != nil {
			return nil, err
		}
		addrs[i] = addr
		_, ports[i], _ = net.SplitHostPort(addr)
	}
	conf := fmt.Sprintf("listeners.tcp.1 = %s\nmqtt.listeners.tcp.1 = %s\nmqtt.allow_anonymous = true\nmqtt.subscription_ttl = undefined\n",
		addrs[1], addrs[0])
	for name, text := range map[string]string{"rabbitmq.conf": conf, "plugins": "[rabbitmq_mqtt].\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("start RabbitMQ: %w", err)
		}
	}
	// Left to itself, Erlang starts its port mapper as a daemon that stays.
	mapper, err := start(exec.Command("epmd", "-address", "127.0.0.1", "-port", ports[3]), addrs[3], filepath.Join(dir, "epmd.log"), startTime)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(rabbitProgram)
	cmd.Env = append(os.Environ(),
		"HOME="+dir, "RABBITMQ_NODENAME=mqttetl"+ports[0]+"@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_CONFIG_FILE="+filepath.Join(dir, "rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "plugins"),
		"RABBITMQ_MNESIA_BASE="+dir, "RABBITMQ_LOG_BASE="+dir, "RABBITMQ_PID_FILE="+filepath.Join(dir, "pid"),
		"RABBITMQ_DIST_PORT="+ports[2], "ERL_EPMD_PORT="+ports[3], "ERL_EPMD_ADDRESS=127.0.0.1",
	)
	p, err := start(cmd, addrs[0], filepath.Join(dir, "rabbitmq.log"), slowTime)
	if err != nil {
		mapper.Kill()
		return nil, err
	}
	p.also = mapper
	return p, nil
}
