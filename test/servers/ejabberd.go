package servers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNoEjabberd: there is no ejabberd on this machine.
var ErrNoEjabberd = errors.New("ejabberd not found: apt-get install ejabberd")

const ejabberdConfig = `hosts: [localhost]
auth_method: [anonymous]
anonymous_protocol: both
allow_multiple_connections: true
listen: [{port: %s, ip: "127.0.0.1", module: mod_mqtt, backlog: 1000}]
modules: {mod_mqtt: {session_expiry: 1 day, max_queue: unlimited}}
`

// StartEjabberd starts ejabberd with MQTT and nothing else, all its files in
// dir. User names are user@localhost, with any password.
func StartEjabberd(dir string) (*Program, error) {
	found, err := filepath.Glob("/usr/lib/*/ejabberd-*/ebin")
	if err != nil || len(found) == 0 {
		return nil, ErrNoEjabberd
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	config := filepath.Join(dir, "ejabberd.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, ejabberdConfig, port), 0o600); err != nil {
		return nil, fmt.Errorf("start ejabberd: %w", err)
	}
	// Without a node name Erlang opens no further port.
	cmd := exec.Command("erl", "-noinput", "-mnesia", "dir", fmt.Sprintf("%q", filepath.Join(dir, "mnesia")), "-s", "ejabberd")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "ERL_LIBS="+filepath.Dir(filepath.Dir(found[0])),
		"EJABBERD_CONFIG_PATH="+config, "EJABBERD_LOG_PATH="+filepath.Join(dir, "ejabberd.log"))
	return start(cmd, addr, filepath.Join(dir, "out.log"), slowTime)
}
