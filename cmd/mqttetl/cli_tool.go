package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl/internal/mosquitto"
)

// A tool is a command with the options of mosquitto_pub and mosquitto_sub.
type tool struct {
	*mosquitto.Options
	std streams
	cmd *cobra.Command
}

// newTool makes a command whose options are parsed as mosquitto's are.
func newTool(std streams, cmd *cobra.Command, run func(context.Context) error) *tool {
	t := &tool{std: std, cmd: cmd, Options: mosquitto.New(cmd, flagError)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := t.Parse(args); err != nil {
			return usageError{err, cmd}
		}
		if t.Help {
			return cmd.Help()
		}
		if t.Ask {
			_, err := fmt.Fprintf(t.std.out, "mqttetl %s\n", buildVersion().Version)
			return err
		}
		if t.Debug {
			t.std.err = &locked{w: std.err} // who reads and who publishes both tell
		}
		t.Err = t.std.err
		err := run(cmd.Context())
		if err != nil && t.Quiet {
			return quietError{err}
		}
		return err
	}
	return t
}

// say tells something that is no data, unless --quiet forbids it.
func (t *tool) say(format string, args ...any) {
	if !t.Quiet {
		fmt.Fprintf(t.std.err, format+"\n", args...)
	}
}

// mostSeconds is 31 years, beyond which a time would not be one.
const mostSeconds = 1_000_000_000

// isSeconds says whether s is a time to wait.
func isSeconds(s float64) bool { return s > 0 && s <= mostSeconds }
