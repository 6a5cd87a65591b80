package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/disk"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// StatusFromFiles makes the document from the files, while the service is down.
func StatusFromFiles(cfg *config.Config, version string) (*Status, error) {
	info, err := wal.Inspect(cfg.Log.Dir)
	if err != nil {
		return nil, err
	}
	s := &Status{Version: version, Sources: []SourceStatus{}}
	for _, source := range cfg.Sources {
		s.Sources = append(s.Sources, SourceStatus{Name: source.Name})
	}
	for _, l := range cfg.Listen {
		s.Listeners = append(s.Listeners, ListenerStatus{Name: l.Name})
	}
	if a := cfg.Archive; a != nil {
		if err := disk.MayRead("archive", a.Path); err != nil {
			return nil, err
		}
		id, cursor, err := archive.ReadCursor(a.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil && id != "" && id != info.ID {
			return nil, fmt.Errorf("archive %s: %w", a.Path, mqttetl.ErrForeign)
		}
		s.Archive = &ArchiveStatus{Cursor: cursor, WALBytes: archive.WALBytes(a.Path)}
	}
	if cfg.NATS != nil {
		s.NATS = &NATSStatus{Cursor: info.Cursors[Forward]}
	}
	if slices.Contains(ConsumersOf(cfg), Publish) {
		s.Publish = &NATSStatus{Cursor: info.Cursors[Publish]}
	}
	s.SetLog(wal.Stats{First: info.First, Last: info.Last, Bytes: info.Bytes, File: info.File, HeldBy: info.HeldBy})
	return s, nil
}
