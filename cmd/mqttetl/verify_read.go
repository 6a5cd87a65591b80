package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// verifyRead is the hidden command that does the reading for verify.
const verifyRead = "verify-read"

// findings is one line from the process that reads to the one that reports:
// how far it has come, or what it found.
type findings struct {
	Program string          `json:"program,omitempty"` // the first line: who reads
	At      mqttetl.Seq     `json:"at,omitempty"`
	Archive *archiveVerdict `json:"archive,omitempty"`
	Log     *logVerdict     `json:"log,omitempty"`
}

// thisBuild tells this build from another.
func thisBuild() string { return "mqttetl " + buildVersion().Version + " " + buildVersion().Commit }

func (f *findings) verdict() *verdict {
	v := &verdict{Log: *f.Log, Archive: f.Archive}
	v.Intact = v.damages() == 0
	return v
}

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
			return readAll(cmd.Context(), cfg, func(f findings) error { return enc.Encode(f) })
		},
	}
	configFlag(cmd, &path)
	return cmd
}

// readAll reads archive and log and tells what it finds. The archive comes
// first: it may be caught up with a log that grows, but never the reverse.
func readAll(ctx context.Context, cfg *config.Config, tell func(findings) error) error {
	var a *archiveVerdict
	var logID string
	var err error
	if cfg.Archive != nil {
		if a, logID, err = readArchive(ctx, cfg.Archive.Path); err != nil {
			return err
		}
		if err := tell(findings{Archive: a}); err != nil {
			return err
		}
	}
	l, id, err := readLog(cfg.Log.Dir, func(at mqttetl.Seq) { tell(findings{At: at}) })
	if err != nil {
		return err
	}
	if a != nil && id != "" {
		a.compare(logID, id, l.Last)
		if err := a.reaches(cfg.Archive.Path, l.First); err != nil {
			return err
		}
	}
	return tell(findings{Archive: a, Log: l})
}

// compare adds what is wrong between an archive and the log beside it.
func (a *archiveVerdict) compare(logID, id string, last mqttetl.Seq) {
	switch {
	case logID != "" && logID != id:
		a.Damage = append(a.Damage, fmt.Sprintf("record %d: filled from log %s, the log is %s", a.Cursor, logID, id))
	case a.Cursor > last:
		a.Damage = append(a.Damage, fmt.Sprintf("record %d: the cursor is ahead of the last record of the log, %d", a.Cursor, last))
	}
}

// reaches adds the gap between the archive and a log that begins after it: it
// was put back from an older copy. What a service archives and trims meanwhile
// is none.
func (a *archiveVerdict) reaches(path string, first mqttetl.Seq) error {
	if a.Cursor == 0 || first <= a.Cursor+1 {
		return nil
	}
	_, now, err := archive.ReadCursor(path)
	if err == nil && now >= a.Cursor && first > now+1 {
		a.Gaps = append(a.Gaps, gap{now + 1, first - 1})
	}
	return err
}

// readArchive returns nil where there is no archive yet.
func readArchive(ctx context.Context, path string) (_ *archiveVerdict, logID string, _ error) {
	if err := mayRead("archive", path); err != nil {
		return nil, "", err
	}
	found, err := archive.Verify(ctx, path, false)
	v := &archiveVerdict{Gaps: []gap{}, Damage: []string{}}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", nil
	case errors.Is(err, mqttetl.ErrDamaged), errors.Is(err, mqttetl.ErrForeign):
		v.Damage = append(v.Damage, err.Error())
		return v, "", nil
	case err != nil:
		return nil, "", err
	}
	v.Cursor = found.Cursor
	for _, g := range found.Gaps {
		v.Gaps = append(v.Gaps, gap{g.First, g.Last})
	}
	for _, p := range found.Problems {
		v.Damage = append(v.Damage, p.String())
	}
	return v, found.LogID, nil
}

// readLog returns, beside the verdict, the id of the log, "" where it could
// not be read.
func readLog(dir string, progress func(mqttetl.Seq)) (_ *logVerdict, id string, _ error) {
	found, err := wal.Verify(dir, progress)
	v := &logVerdict{First: found.First, Last: found.Last, Records: found.Records, Damage: []string{}}
	if errors.Is(err, mqttetl.ErrDamaged) {
		v.Damage = append(v.Damage, err.Error())
	} else if err != nil {
		return nil, "", err
	}
	for _, p := range found.Problems {
		v.Damage = append(v.Damage, fmt.Sprintf("record %d: %s", p.Seq, p.Text))
	}
	if len(v.Damage) > 0 {
		return v, "", nil // its end is not certain, so nothing is measured by it
	}
	return v, found.ID, nil
}
