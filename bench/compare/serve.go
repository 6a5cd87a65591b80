package compare

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/mqttetl/mqttetl/internal/embedded"
	"github.com/mqttetl/mqttetl/test/servers"
)

// ready is what a role says when it serves.
type ready struct {
	URL     string
	Monitor string
	Version string
	Config  string
}

// childTime is how long a role may take to answer or to end.
const childTime = 20 * time.Second

// Roles of this program as a server of its own, for Serve.
const (
	roleMochi    = "mochi"
	roleNATS     = "nats"
	roleAlways   = "nats-always" // syncs before it acknowledges
	roleNullMQTT = "null-mqtt"
	roleNullNATS = "null-nats"
)

// Serve is this program as a server, in a process of its own so that its CPU is
// its own too, with its files in dir. It says on out where it serves, answers
// the line "count" with what it has counted, and ends with in or ctx.
func Serve(ctx context.Context, role, dir string, in io.Reader, out io.Writer) error {
	said, count, stop, err := serve(role, dir)
	if err != nil {
		return err
	}
	defer stop()
	say := json.NewEncoder(out)
	if err := say.Encode(said); err != nil {
		return err
	}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			select {
			case asked <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case _, more := <-asked:
			if !more {
				return nil
			}
			if err := say.Encode(count()); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func serve(role, dir string) (said ready, count func() map[string]uint64, stop func(), err error) {
	count = func() map[string]uint64 { return nil }
	switch role {
	case roleMochi:
		m, err := embedded.StartMochi("")
		if err != nil {
			return said, nil, nil, err
		}
		count = func() map[string]uint64 {
			received, sent, dropped := m.Counted()
			return map[string]uint64{sysReceived: uint64(received), sysSent: uint64(sent), sysDropped: uint64(dropped)}
		}
		said = ready{URL: m.URL, Version: module("github.com/mochi-mqtt/server/v2"), Config: "MaximumClientWritesPending 65536\nMaximumInflight 65535\nReceiveMaximum 65535\n"}
		return said, count, func() { m.Close() }, nil
	case roleNATS, roleAlways:
		said, stop, err = serveNATS(dir, role == roleAlways)
		return said, count, stop, err
	case roleNullMQTT:
		said.URL, stop, err = listen("mqtt", nullMQTT)
		return said, count, stop, err
	case roleNullNATS:
		said.URL, stop, err = listen("nats", nullNATS)
		return said, count, stop, err
	}
	return said, nil, nil, fmt.Errorf("no such role: %s", role)
}

func serveNATS(dir string, always bool) (said ready, stop func(), err error) {
	addr, err := servers.FreeAddr()
	if err != nil {
		return said, nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return said, nil, err
	}
	n, err := embedded.StartNATS(dir, func(o *server.Options) {
		o.HTTPHost = "127.0.0.1"
		o.HTTPPort, _ = strconv.Atoi(port)
		o.SyncAlways = always
		if always {
			o.SyncInterval = 2 * time.Minute
		}
	})
	if err != nil {
		return said, nil, err
	}
	said = ready{URL: n.URL(), Monitor: "http://" + addr, Version: server.VERSION}
	said.Config = fmt.Sprintf("http: %q\njetstream { store_dir: %q%s }\n", addr, dir, alwaysText(always))
	return said, n.Stop, nil
}

// alwaysText is the setting in nats-server's configuration.
func alwaysText(always bool) string {
	if always {
		return ", sync_interval: always"
	}
	return ""
}

// listen serves every connection on a free port of the loopback interface.
func listen(scheme string, each func(net.Conn)) (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("start a null server: %w", err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				each(c)
			}()
		}
	}()
	return scheme + "://" + l.Addr().String(), func() { l.Close() }, nil
}

// module is the version of a module that is built in.
func module(path string) string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return ""
	}
	for _, d := range info.Deps {
		if d.Path == path {
			return d.Version
		}
	}
	return ""
}
