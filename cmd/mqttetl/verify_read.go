package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/disk"
	"github.com/mqttetl/mqttetl/sink/history"
)

// verifyRead is the hidden command that does the reading for verify.
const verifyRead = "verify-read"

// findings is one line from the process that reads to the one that reports:
// how far it has come, or what it found.
type findings struct {
	Program string `json:"program,omitempty"` // the first line: who reads
	history.Found
}

// thisBuild tells this build from another.
func thisBuild() string { return "mqttetl " + buildVersion().Version + " " + buildVersion().Commit }

func newVerifyRead(std streams) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:    verifyRead,
		Short:  "The reading half of verify, in a process of its own",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			enc := json.NewEncoder(std.out)
			if err := enc.Encode(findings{Program: thisBuild()}); err != nil {
				return err
			}
			cfg, err := loadStores(path)
			if err != nil {
				return err
			}
			return readAll(cmd.Context(), cfg, func(f history.Found) error { return enc.Encode(findings{Found: f}) })
		},
	}
	configFlag(cmd, &path)
	return cmd
}

// readAll reads archive and log and tells what it finds.
func readAll(ctx context.Context, cfg *config.Config, tell func(history.Found) error) error {
	places := history.Places{LogDir: cfg.Log.Dir}
	if cfg.Archive != nil {
		places.Archive = cfg.Archive.Path
		if err := disk.MayRead("archive", places.Archive); err != nil {
			return err
		}
	}
	return history.Verify(ctx, places, tell)
}
