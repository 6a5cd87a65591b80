//go:build small

package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl/forward/export"
)

// The small build has no servers within, none of the commands that need them or
// are for a desk, and no Parquet.
func newDemo(streams) *cobra.Command     { return noCommand("demo") }
func newBench(streams) *cobra.Command    { return noCommand("bench") }
func newSimulate(streams) *cobra.Command { return noCommand("simulate") }

var exportParquet func(ctx context.Context, w io.Writer, src export.Source) (uint64, error)

// noCommand is a command that only says that it is not there, whatever its flags are.
func noCommand(name string) *cobra.Command {
	return &cobra.Command{
		Use:                name,
		Short:              "Not in this small build",
		DisableFlagParsing: true,
		RunE:               func(*cobra.Command, []string) error { return codedError{leftOut(name), exitUsage} },
	}
}
