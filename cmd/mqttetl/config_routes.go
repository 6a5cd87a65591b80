package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/routetest"
	"github.com/mqttetl/mqttetl/internal/visible"
)

func newConfigTest(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test FILE",
		Short: "Run the tests of a configuration: what its routes make of messages",
		Long: `Test gives the messages below tests: in FILE to the routes, in their order, and
compares the rows with the expected ones: each table that expect names must have as
many rows, in the same order, with the given columns. With expect: {} no route may
make a row. Test prints the differences.

It exits 0, 1 if a test fails, or 78 if the configuration has an error. It opens no
stores and no connections.`,
		Example: `  mqttetl config test mqttetl.yaml`,
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := theFile(cmd, args)
			cfg, err := loadStores(path)
			if err != nil {
				return err
			}
			return runConfigTests(std.out, path, cfg)
		},
	}
	fileFlag(cmd)
	return cmd
}

// runConfigTests prints what differs, and how many tests there were.
func runConfigTests(w io.Writer, path string, cfg *config.Config) error {
	failed, err := routetest.Run(cfg)
	if err != nil {
		return config.Error{Err: err}
	}
	for _, f := range failed {
		fmt.Fprintf(w, "%s:%d: %s\n", path, f.Line, visible.Text(f.Topic))
		for _, line := range f.Lines {
			fmt.Fprintf(w, "    %s\n", line)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%s: %d of %d tests failed", path, len(failed), len(cfg.Tests))
	}
	_, err = fmt.Fprintf(w, "%s: %s\n", path, choose(len(cfg.Tests) == 0, "there are no tests", plural(len(cfg.Tests), "test")+" passed"))
	return err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
