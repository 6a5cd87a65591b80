package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/disk"
	"github.com/mqttetl/mqttetl/sink/history"
)

// selectionFlags are the flags by which every command that reads what was
// recorded is told where it is and which of it is selected.
type selectionFlags struct {
	config, archive string
	since, until    string
	seq             string
	topics, sources []string
	limit           uint64
}

func (f *selectionFlags) add(cmd *cobra.Command) {
	configFlag(cmd, &f.config)
	flags := cmd.Flags()
	flags.StringVar(&f.archive, "archive", "", "read this archive alone, without a configuration")
	flags.StringVar(&f.since, "since", "", "not before: "+mqttetl.TimeForms)
	flags.StringVar(&f.until, "until", "", "before: "+mqttetl.TimeForms)
	flags.StringVar(&f.seq, "seq", "", "records by number: 100..200, 100.., ..200 or 100")
	flags.StringArrayVarP(&f.topics, "topic", "t", nil, "topic filter with + and #; may be repeated, any of them")
	flags.StringArrayVar(&f.sources, "source", nil, "name of a source; may be repeated, any of them")
	flags.Uint64Var(&f.limit, "limit", 0, "at most this number of records, the first ones; 0: all")
}

// selection is what the flags mean at the time now.
func (f *selectionFlags) selection(now time.Time) (s mqttetl.Selection, err error) {
	s.Sources, s.Limit = f.sources, f.limit
	var errs []error
	s.Since, err = mqttetl.ParseTime(f.since, now)
	errs = append(errs, named("since", err))
	s.Until, err = mqttetl.ParseTime(f.until, now)
	errs = append(errs, named("until", err))
	s.From, s.To, err = mqttetl.ParseRange(f.seq)
	errs = append(errs, named("seq", err))
	for _, t := range f.topics {
		filter, err := mqttetl.ParseFilter(t)
		errs = append(errs, named("topic", err))
		s.Topics = append(s.Topics, filter)
	}
	if !s.Since.IsZero() && !s.Until.IsZero() && !s.Since.Before(s.Until) {
		errs = append(errs, fmt.Errorf("--since %s is not before --until %s", f.since, f.until))
	}
	return s, errors.Join(errs...)
}

// noRecords is said, on standard error, where a selection is empty.
const noRecords = "no record matches this selection"

func named(flag string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--%s: %w", flag, err)
}

// open opens what the flags name and says which of it is selected.
func (f *selectionFlags) open(cmd *cobra.Command) (*history.History, mqttetl.Selection, error) {
	sel, err := f.selection(time.Now())
	if err != nil {
		return nil, sel, usageError{err, cmd}
	}
	h, err := openHistory(f.config, f.archive)
	if err != nil {
		return nil, sel, err
	}
	if err := warnGap(cmd.ErrOrStderr(), h); err != nil {
		_ = h.Close() // the first error is the one that says why
		return nil, sel, err
	}
	return h, sel, nil
}

// warnGap tells which records are in neither archive nor log.
func warnGap(w io.Writer, h *history.History) error {
	first, last, err := h.Gap()
	if err == nil && first > 0 {
		fmt.Fprintf(w, "mqttetl: records %d to %d are missing: the archive ends before them, the log begins after them; was the archive put back from an older copy?\n", first, last)
	}
	return err
}

// openHistory opens the archive alone, if one is named, or the stores of the
// configuration.
func openHistory(conf, alone string) (*history.History, error) {
	if alone != "" {
		if err := checkFile(alone); err != nil {
			return nil, err
		}
		return history.Open(history.Places{Archive: alone})
	}
	cfg, err := loadStores(conf)
	if err != nil {
		return nil, err
	}
	places := history.Places{LogDir: cfg.Log.Dir}
	if err := disk.MayRead("log", places.LogDir); err != nil {
		return nil, err
	}
	if cfg.Archive != nil {
		places.Archive = cfg.Archive.Path
		if err := disk.MayRead("archive", places.Archive); err != nil {
			return nil, err
		}
	}
	h, err := history.Open(places)
	if errors.Is(err, fs.ErrNotExist) {
		err = nothingYet(cfg.Log.Dir)
	}
	return h, err
}

func nothingYet(place string) error {
	return codedError{mqttetl.WithHint(fmt.Errorf("nothing has been recorded in %s yet", place),
		"mqttetl run records what the configuration says; -c names another one"), exitUnreachable}
}

// checkArchive holds an archive to be a file: one that a configuration names
// may come to be, one that --archive names is there.
func checkArchive(path string, configured bool) error {
	if !configured {
		return checkFile(path)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nothingYet(path)
	}
	return disk.MayRead("archive", path)
}

// checkFile holds an archive that is named to be a file.
func checkFile(path string) error {
	st, err := os.Stat(path)
	if err == nil && st.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	}
	const name = "name the SQLite file, archive.path of the configuration"
	if err != nil {
		return mqttetl.WithHint(fmt.Errorf("--archive: %w", err), name)
	}
	f, err := os.Open(path)
	if err != nil {
		return disk.MayRead("--archive", path)
	}
	defer f.Close()
	magic := make([]byte, 16) // SQLite's file format, 1.3.1
	if n, _ := io.ReadFull(f, magic); n > 0 && string(magic) != "SQLite format 3\x00" {
		return codedError{mqttetl.WithHint(fmt.Errorf("--archive: %s is no SQLite file", path), name), exitDamaged}
	}
	return nil
}
