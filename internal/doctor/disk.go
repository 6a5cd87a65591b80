package doctor

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/disk"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// lowSpace is the free space, in bytes, below which a store is about to stop.
const lowSpace = 256 << 20

// disk measures the disk of the log and looks at the room of both stores.
func (d *doctor) disk() {
	dir, err := disk.Existing(d.cfg.Log.Dir)
	if err != nil {
		d.failed("log", "directory", "create the directory, or name another one in log.dir", err)
		return
	}
	if median, worst, err := commitTime(dir); err != nil {
		d.failed("log", "commit time", "", err)
	} else {
		d.commit = median
		level, advice := OK, ""
		if median > 20*time.Millisecond {
			level, advice = Warn, "put the log on a drive with a quick flush, such as an SSD with power-loss protection"
		}
		d.add("log", "commit time", level, advice, "median %s, worst of %d %s, in %s",
			median.Round(10*time.Microsecond), commitRounds, worst.Round(10*time.Microsecond), dir)
	}
	if info, err := wal.Inspect(d.cfg.Log.Dir); err == nil && info.HeldBy != "" {
		d.add("log", "readers", Warn, "let it go on (kill -CONT), or end it", "%s", info.HeldBy)
	}
	d.space("log", dir, cmp.Or(d.cfg.Log.MaxSize, wal.DefaultMaxSize(dir))-used(d.cfg.Log.Dir), "log.max_size")
	if a := d.cfg.Archive; a != nil {
		if dir, err := disk.Existing(filepath.Dir(a.Path)); err != nil {
			d.failed("archive", "directory", "create the directory, or name another one in archive.path", err)
		} else {
			d.space("archive", dir, 0, "")
		}
	}
}

// used is the size of the files in dir, in bytes, as the drive counts it.
func used(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // what cannot be read is not counted
		}
		var st unix.Stat_t
		if info, err := e.Info(); err == nil && unix.Stat(filepath.Join(dir, info.Name()), &st) == nil {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum
}

// space judges the free space at dir; the store may still grow by growth bytes.
func (d *doctor) space(part, dir string, growth int64, setting string) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		d.failed(part, "free space", "", fmt.Errorf("statfs %s: %w", dir, err))
		return
	}
	free := disk.Free(&st)
	switch {
	case free < lowSpace:
		d.add(part, "free space", Fail, "make room: without it, acknowledging stops", "%s in %s", mqttetl.FormatSize(free), dir)
	case free < growth:
		d.add(part, "free space", Warn, "make room, or lower "+setting, "%s in %s; %s lets the log grow by %s", mqttetl.FormatSize(free), dir, setting, mqttetl.FormatSize(growth))
	default:
		d.add(part, "free space", OK, "", "%s in %s", mqttetl.FormatSize(free), dir)
	}
}

// What a commit of the log writes, roughly, and how often it is measured.
const (
	commitRounds = 50
	commitData   = 64 << 10
	commitMeta   = 4 << 10
)

// commitTime measures what a commit of the log costs on the drive of dir: data,
// a sync, and a synced page after it.
func commitTime(dir string) (median, worst time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".mqttetl-doctor-*")
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	times := make([]time.Duration, 0, commitRounds)
	data := make([]byte, commitData)
	for i := range int64(commitRounds) {
		began := time.Now()
		for at, p := range map[int64][]byte{commitMeta + i%15*commitData: data, 0: data[:commitMeta]} {
			if _, err := f.WriteAt(p, at); err != nil {
				return 0, 0, err
			}
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return 0, 0, fmt.Errorf("fdatasync %s: %w", f.Name(), err)
			}
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)-1], nil
}

// clock asks the kernel whether something keeps its time right.
func (d *doctor) clock() {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		d.add("machine", "clock", Warn, "", "the kernel does not tell: %v", err)
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		d.add("machine", "clock", Warn, "run chrony or systemd-timesyncd: records carry this machine's time", "not synchronised")
	default:
		unit := time.Microsecond
		if t.Status&unix.STA_NANO != 0 {
			unit = time.Nanosecond
		}
		d.add("machine", "clock", OK, "", "synchronised, off by about %s", time.Duration(t.Offset)*unit)
	}
}

// secrets looks at who may read what must stay secret.
func (d *doctor) secrets(path string) {
	private := func(part, file string) {
		if file == "" {
			return
		}
		info, err := os.Stat(file)
		switch {
		case err != nil:
			d.failed(part, "secret", "", err)
		case info.Mode().Perm()&0o077 != 0:
			d.add(part, "secret", Warn, "chmod 600 "+file, "%s is open to others (%s)", file, info.Mode().Perm())
		default:
			d.add(part, "secret", OK, "", "%s is private", file)
		}
	}
	text, _ := os.ReadFile(path) // it has just been read
	inline := false
	for _, s := range d.cfg.Sources {
		part := partOf(&s)
		private(part, s.PasswordFile)
		private(part, s.TLS.Key)
		inline = inline || s.Password != "" && strings.Contains(string(text), s.Password)
	}
	if inline {
		private("configuration", path)
	}
	if n := d.cfg.NATS; n != nil {
		private("nats", n.CredsFile)
		private("nats", n.TLS.Key)
	}
}

func partOf(s *config.Source) string { return "source " + s.Name }
