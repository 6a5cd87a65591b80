// Command natsd is the nats-server of this module as a process of its own: that
// of a distribution may be too old for what a test asks of it.
package main

import (
	"fmt"
	"os"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "natsd:", err)
		os.Exit(1)
	}
}

// run takes -c FILE, as nats-server does.
func run(args []string) error {
	if len(args) != 2 || args[0] != "-c" {
		return fmt.Errorf("got %q, want -c FILE", args)
	}
	o, err := server.ProcessConfigFile(args[1])
	if err != nil {
		return err
	}
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
	return nil
}
