package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNoActiveMQ: there is no ActiveMQ on this machine.
var ErrNoActiveMQ = errors.New("ActiveMQ not found: apt-get install activemq libmqtt-client-java")

// Where Debian keeps its jars, and the one that its MQTT needs and does not
// depend on.
const (
	activeMQLibraries = "/usr/share/activemq/lib"
	activeMQCodec     = "/usr/share/java/mqtt-client.jar"
)

// StartActiveMQ starts ActiveMQ Classic with MQTT and nothing else, all its files
// in dir.
func StartActiveMQ(dir string) (*Program, error) {
	for _, path := range []string{activeMQLibraries, activeMQCodec} {
		if _, err := os.Stat(path); err != nil {
			return nil, ErrNoActiveMQ
		}
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	broker := fmt.Sprintf("broker:(mqtt://%s)?persistent=true&useJmx=false&dataDirectory=%s", addr, filepath.Join(dir, "data"))
	cmd := exec.Command("java", "-Xmx256m", "-cp", activeMQLibraries+"/*:"+activeMQLibraries+"/optional/*:"+activeMQCodec,
		"org.apache.activemq.console.command.ShellCommand", "start", broker)
	cmd.Dir = dir
	return start(cmd, addr, filepath.Join(dir, "activemq.log"), slowTime)
}
