package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/PowerDNS/lmdb-go/lmdb"
	"github.com/spf13/cobra"
	sqlite3 "modernc.org/sqlite/lib"
)

// version and commit are set by the Makefile with -ldflags; else the build
// information speaks.
var version, commit string

// build says what this binary was made from.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"` // "unknown" outside of git
	Go      string `json:"go"`
	LMDB    string `json:"lmdb"`
	SQLite  string `json:"sqlite"`
}

// buildVersion is asked for with every status.
var buildVersion = sync.OnceValue(func() build {
	major, minor, patch, _ := lmdb.Version()
	b := build{
		Version: version,
		Commit:  commit,
		Go:      runtime.Version(),
		LMDB:    fmt.Sprintf("%d.%d.%d", major, minor, patch),
		SQLite:  sqlite3.SQLITE_VERSION,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = cmp.Or(b.Version, info.Main.Version)
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if b.Commit == "" {
		b.Commit = cmp.Or(settings["vcs.revision"], "unknown")
	}
	return b
})

func newVersion(std streams) *cobra.Command {
	var format outputFormat
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of mqttetl and of what it is built with",
		Example: `  mqttetl version
  mqttetl version -o json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			b := buildVersion()
			return format.write(std.out, report{
				document: b,
				header:   []string{"part", "version"},
				rows: [][]string{
					{"mqttetl", b.Version}, {"commit", b.Commit}, {"go", b.Go}, {"lmdb", b.LMDB}, {"sqlite", b.SQLite},
				},
			})
		},
	}
	outputFlag(cmd, &format)
	return cmd
}
