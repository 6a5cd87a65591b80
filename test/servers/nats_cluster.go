package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// clusterReady bounds how long the servers of a cluster may take to elect a leader.
const clusterReady = time.Minute

// NATSCluster is JetStream servers of this module's version that form a cluster,
// each a process of its own.
type NATSCluster struct {
	Nodes []*NATSNode
}

// NATSNode is one server of a cluster.
type NATSNode struct {
	*NATSProcess
	Name string
	dir  string
}

// BuildNATS builds nats-server from the module in go.mod into dir.
func BuildNATS(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "nats-server")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/mqttetl/mqttetl/test/servers/natsd")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build nats-server: %w\n%s", err, out)
	}
	return binary, nil
}

// StartNATSCluster builds nats-server from the module in go.mod and starts a
// cluster of n of them, with their files in dir. extraConf is added to each
// configuration.
func StartNATSCluster(ctx context.Context, dir string, n int, extraConf string) (_ *NATSCluster, err error) {
	binary, err := BuildNATS(ctx, dir)
	if err != nil {
		return nil, err
	}
	var routes []string
	for range n {
		addr, err := FreeAddr()
		if err != nil {
			return nil, fmt.Errorf("start a cluster: %w", err)
		}
		routes = append(routes, "nats://"+addr)
	}
	c := &NATSCluster{}
	defer func() {
		if err != nil {
			c.Kill()
		}
	}()
	for i, route := range routes {
		name := string(rune('a' + i))
		conf := fmt.Sprintf("server_name: %s\ncluster { name: test, listen: %q, routes: [%s] }\n%s",
			name, strings.TrimPrefix(route, "nats://"), strings.Join(routes, ", "), extraConf)
		node := &NATSNode{Name: name, dir: filepath.Join(dir, name)}
		if err := os.MkdirAll(node.dir, 0o750); err != nil {
			return nil, fmt.Errorf("start a cluster: %w", err)
		}
		if node.NATSProcess, err = newNATSProcess(binary, node.dir, conf); err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, node)
		if err := node.Restart(); err != nil {
			return nil, err
		}
	}
	return c, c.Await(ctx)
}

// URL is a comma list of where the servers listen.
func (c *NATSCluster) URL() string {
	var urls []string
	for _, n := range c.Nodes {
		urls = append(urls, n.URL())
	}
	return strings.Join(urls, ",")
}

// Node returns the server of that name, nil if there is none.
func (c *NATSCluster) Node(name string) *NATSNode {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Await waits until JetStream answers: the servers have elected a leader.
func (c *NATSCluster) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, clusterReady, errors.New("no leader"))
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		err := c.answers()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cluster of nats-servers: %w: %w", context.Cause(ctx), err)
		case <-poll.C:
		}
	}
}

func (c *NATSCluster) answers() error {
	nc, err := nats.Connect(c.URL(), nats.Timeout(time.Second), nats.NoReconnect())
	if err != nil {
		return err
	}
	defer nc.Close()
	m, err := nc.Request("$JS.API.STREAM.NAMES", nil, time.Second)
	if err == nil && !strings.Contains(string(m.Data), `"total"`) {
		err = errors.New(string(m.Data))
	}
	return err
}

// Kill ends all servers by SIGKILL.
func (c *NATSCluster) Kill() {
	for _, n := range c.Nodes {
		n.Kill()
	}
}

// Wipe deletes the store of a server that is not running.
func (n *NATSNode) Wipe() error {
	return os.RemoveAll(n.store())
}

// Printed is what the server has printed so far.
func (n *NATSNode) Printed() string { return string(n.printed()) }

func (n *NATSNode) store() string { return filepath.Join(n.dir, "store") }

// Dir is where the server's files are.
func (n *NATSNode) Dir() string { return n.dir }
