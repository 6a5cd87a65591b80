package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/deploy"
	"github.com/mqttetl/mqttetl/internal/config"
)

const defaultConfigPath = config.DefaultPath

// loadConfig reads a configuration; every error of it exits 78. The paths of
// the stores come out absolute, so that messages name the place.
func loadConfig(path string) (*config.Config, error) { return loaded(path, config.Load) }

// loadStores is loadConfig for a command that uses the stores but no broker: a
// secret that only the service's environment knows may be missing.
func loadStores(path string) (*config.Config, error) { return loaded(path, config.LoadStores) }

func loaded(path string, load func(string) (*config.Config, error)) (*config.Config, error) {
	c, err := load(path)
	if err != nil {
		return nil, config.Error{Err: withConfigHint(err)}
	}
	c.Log.Dir = absolute(c.Log.Dir)
	if c.Archive != nil {
		c.Archive.Path = absolute(c.Archive.Path)
	}
	return c, nil
}

// absolute leaves path as it is where the working directory is gone.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func withConfigHint(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return mqttetl.WithHint(err, "`mqttetl config example` prints a configuration to start from; -c names the file")
	case errors.Is(err, fs.ErrPermission):
		return mqttetl.WithHint(err, "read it as root, or as the user that owns it")
	case errors.Is(err, syscall.EISDIR):
		return mqttetl.WithHint(err, "-c names the file, not its directory")
	}
	return err
}

func newConfig(std streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config COMMAND",
		Short: "Check and test a configuration, or print the example",
		Example: `  mqttetl config example > mqttetl.yaml
  mqttetl config check mqttetl.yaml`,
		RunE: needCommand,

		SuggestionsMinimumDistance: 2,
	}
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Report everything wrong with a configuration; silent when all is well",
		Long: `Check reads FILE as run does, environment variables included, and prints each
error as file:line:col: message. It checks the files for TLS that it can read, and says
what is allowed and slow. It exits 0, or 78 if there was an error.`,
		Example: `  mqttetl config check /etc/mqttetl/mqttetl.yaml`,
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(theFile(cmd, args))
			if err != nil {
				return err
			}
			if err := cfg.CheckFiles(); err != nil {
				return config.Error{Err: err}
			}
			for _, line := range cfg.Notes() {
				if _, err := fmt.Fprintln(std.err, line); err != nil {
					return err
				}
			}
			return nil
		},
	}
	fileFlag(check)
	cmd.AddCommand(check, &cobra.Command{
		Use:     "example",
		Short:   "Print the example configuration, which shows every default",
		Example: `  mqttetl config example > mqttetl.yaml`,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := io.WriteString(std.out, deploy.Example)
			return err
		},
	}, newConfigTest(std))
	return cmd
}
