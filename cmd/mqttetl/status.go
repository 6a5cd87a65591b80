package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/internal/reporters"
)

func newStatus(std streams) *cobra.Command {
	var path string
	var format outputFormat
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show sources, listeners, log and consumers, also while the service is down",
		Long: `Status asks the running service at http.listen. Where none answers, or http is
off, it reads the files of the log and of the archive, without changing them,
and says so on standard error. It then knows nothing of sources, listeners and NATS:
ready and connected are false, and the counts of sources and listeners are 0.

Exit codes: 0 there is a status, ready or not, 65 the files are damaged or do not
belong together, 69 neither the service nor the log can be read.`,
		Example: `  mqttetl status
  mqttetl status -c mqttetl.yaml -o json | jq .archive.lag`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadStores(path)
			if err != nil {
				return err
			}
			s, err := findStatus(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if s.fromFiles != "" {
				fmt.Fprintf(std.err, "mqttetl: %s: status read from the files, sources and NATS are not known\n", s.fromFiles)
			}
			return format.write(std.out, s.report())
		},
	}
	configFlag(cmd, &path)
	outputFlag(cmd, &format)
	return cmd
}

// findStatus asks the service and, where it does not answer, the files.
func findStatus(ctx context.Context, cfg *config.Config) (*shown, error) {
	asked := errors.New("http is off in the configuration, the service may be running")
	if cfg.HTTP != nil {
		s, err := reporters.Ask(ctx, cfg.HTTP.Listen)
		if err == nil {
			return &shown{Status: *s}, nil
		}
		asked = err
	}
	s, err := pipeline.StatusFromFiles(cfg, buildVersion().Version)
	if err != nil {
		return nil, fmt.Errorf("no status: %w: the service: %w; the files: %w", mqttetl.ErrUnavailable, asked, err)
	}
	return &shown{*s, oneLine(asked)}, nil
}
