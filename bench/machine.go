package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// A machine is what the numbers depend on.
type machine struct {
	instrument.Machine
	Burst    float64 // bytes a second, written and synced, after a rest
	DiskRate float64 // the same without a rest: disks of virtual machines have an allowance
	Sync     spread  // seconds of one fdatasync after a write of 4 KiB
	Versions []string
}

// inspect describes this machine and measures the disk under dir. One in memory is
// refused: it would make syncing free.
func inspect(ctx context.Context, dir string) (m machine, err error) {
	m.Machine = instrument.Inspect(dir)
	if m.InMemory {
		return m, fmt.Errorf("%s is in memory; choose a directory on a disk with -dir", dir)
	}
	if err := m.probe(filepath.Join(dir, "probe")); err != nil {
		return m, err
	}
	m.Versions = versions(ctx)
	return m, nil
}

// probe measures what the disk can do at most.
func (m *machine) probe(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	defer f.Close()
	var syncs []float64
	for i := range 200 {
		d, err := writeSynced(f, make([]byte, 4096), int64(i%8)*4096)
		if err != nil {
			return err
		}
		syncs = append(syncs, d.Seconds())
	}
	m.Sync = spreadOf(syncs)
	const piece, pieces = 16 << 20, 128
	block := make([]byte, piece)
	var took [pieces]time.Duration
	for i := range took {
		if took[i], err = writeSynced(f, block, int64(i)*piece); err != nil {
			return err
		}
	}
	m.Burst, m.DiskRate = piece/median(took[:pieces/8]), piece/median(took[pieces/2:])
	return nil
}

func writeSynced(f *os.File, block []byte, at int64) (time.Duration, error) {
	begun := time.Now()
	if _, err := f.WriteAt(block, at); err != nil {
		return 0, err
	}
	err := unix.Fdatasync(int(f.Fd()))
	return time.Since(begun), err
}

// median is in seconds.
func median(d []time.Duration) float64 {
	var seconds []float64
	for _, v := range d {
		seconds = append(seconds, v.Seconds())
	}
	return spreadOf(seconds).Median
}

// versions lists what takes part.
func versions(ctx context.Context) []string {
	v := []string{runtime.Version(), "mqttetl " + checkout(ctx)}
	for _, program := range [][]string{{"mosquitto", "-h"}, {"nats-server", "-v"}} {
		v = append(v, firstLine(ctx, program[0], program[1:]...))
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, d := range info.Deps {
		switch d.Path {
		case "github.com/PowerDNS/lmdb-go", "modernc.org/sqlite", "github.com/nats-io/nats.go":
			v = append(v, d.Path+" "+d.Version)
		}
	}
	return v
}

// checkout is the version of what was built and measured.
func checkout(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "of no repository"
	}
	return strings.TrimSpace(string(out))
}

// firstLine is the first line that a program prints. Servers are looked for
// where Debian has them too.
func firstLine(ctx context.Context, name string, args ...string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
	}
	out, _ := exec.CommandContext(ctx, path, args...).CombinedOutput() // mosquitto -h exits 3
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		return name + ": version unknown"
	}
	return line
}
