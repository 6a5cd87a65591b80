package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// Verdict is the document that `mqttetl verify` prints.
type Verdict struct {
	Intact  bool            `json:"intact"`
	Log     LogVerdict      `json:"log"`
	Archive *ArchiveVerdict `json:"archive,omitempty"` // absent: off, or no file yet
}

// LogVerdict is what was found in the log.
type LogVerdict struct {
	First   mqttetl.Seq `json:"first"`
	Last    mqttetl.Seq `json:"last"`
	Records int         `json:"records"` // that are as they were written
	Damage  []string    `json:"damage"`  // each with its position
}

// ArchiveVerdict is what was found in the archive.
type ArchiveVerdict struct {
	Cursor mqttetl.Seq `json:"cursor"`
	Gaps   []Gap       `json:"gaps"` // never archived, and noted as such: no damage
	Damage []string    `json:"damage"`
}

// Gap is records that are in no store.
type Gap struct {
	First mqttetl.Seq `json:"first"`
	Last  mqttetl.Seq `json:"last"`
}

// Found is what a part of Verify has found, or how far it has come.
type Found struct {
	At      mqttetl.Seq     `json:"at,omitempty"`
	Archive *ArchiveVerdict `json:"archive,omitempty"`
	Log     *LogVerdict     `json:"log,omitempty"`
}

// Add takes what was found next.
func (all *Found) Add(f Found) {
	all.At = max(all.At, f.At)
	if f.Archive != nil {
		all.Archive = f.Archive
	}
	if f.Log != nil {
		all.Log = f.Log
	}
}

// Verdict is what all of it says. The log must have been found.
func (all *Found) Verdict() *Verdict {
	v := &Verdict{Log: *all.Log, Archive: all.Archive}
	v.Intact = v.Damages() == 0
	return v
}

// Damages counts what is wrong.
func (v *Verdict) Damages() int {
	n := len(v.Log.Damage)
	if v.Archive != nil {
		n += len(v.Archive.Damage)
	}
	return n
}

// Verify reads the archive's bookkeeping and every record of the log, and tells
// what it finds. The archive comes first: it may be caught up with a log that grows,
// but never the reverse. A badly damaged log can end the process (package wal).
func Verify(ctx context.Context, p Places, tell func(Found) error) error {
	var a *ArchiveVerdict
	var logID string
	var err error
	if p.Archive != "" {
		if a, logID, err = readArchive(ctx, p.Archive); err != nil {
			return err
		}
		if err := tell(Found{Archive: a}); err != nil {
			return err
		}
	}
	l, id, err := readLog(p.LogDir, func(at mqttetl.Seq) { _ = tell(Found{At: at}) })
	if err != nil {
		return err
	}
	if a != nil && id != "" {
		a.compare(logID, id, l.Last)
		if err := a.reaches(p.Archive, l.First); err != nil {
			return err
		}
	}
	return tell(Found{Archive: a, Log: l})
}

// compare adds what is wrong between an archive and the log beside it.
func (a *ArchiveVerdict) compare(logID, id string, last mqttetl.Seq) {
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
func (a *ArchiveVerdict) reaches(path string, first mqttetl.Seq) error {
	if a.Cursor == 0 || first <= a.Cursor+1 {
		return nil
	}
	_, now, err := archive.ReadCursor(path)
	if err == nil && now >= a.Cursor && first > now+1 {
		a.Gaps = append(a.Gaps, Gap{now + 1, first - 1})
	}
	return err
}

// readArchive returns nil where there is no archive yet.
func readArchive(ctx context.Context, path string) (_ *ArchiveVerdict, logID string, _ error) {
	found, err := archive.Verify(ctx, path, false)
	v := &ArchiveVerdict{Gaps: []Gap{}, Damage: []string{}}
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
		v.Gaps = append(v.Gaps, Gap{g.First, g.Last})
	}
	for _, p := range found.Problems {
		v.Damage = append(v.Damage, p.String())
	}
	return v, found.LogID, nil
}

// readLog returns, beside the verdict, the id of the log, "" where it could
// not be read.
func readLog(dir string, progress func(mqttetl.Seq)) (_ *LogVerdict, id string, _ error) {
	found, err := wal.Verify(dir, progress)
	v := &LogVerdict{First: found.First, Last: found.Last, Records: found.Records, Damage: []string{}}
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
