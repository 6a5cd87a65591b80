package compare

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// inspect describes this machine; dir is where the servers keep their files.
func inspect(dir string) Machine {
	m := Machine{CPU: cpuModel(), Cores: runtime.NumCPU(), Go: runtime.Version()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	m.Load = loadAverages()
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	m.FileSystem, m.InMemory = fileSystem(dir)
	m.OpenFiles = openFiles()
	return m
}

// loadAverages are those of 1, 5 and 15 minutes.
func loadAverages() (load [3]float64) {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		for i, v := range info.Loads {
			load[i] = float64(v) / (1 << 16) // SI_LOAD_SHIFT
		}
	}
	return load
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if key, model, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}

// fileSystem names the file system that dir is on.
func fileSystem(dir string) (name string, inMemory bool) {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return "unknown", false
	}
	switch s.Type {
	case unix.TMPFS_MAGIC:
		return "tmpfs", true
	case unix.EXT4_SUPER_MAGIC:
		return "ext4", false
	case unix.XFS_SUPER_MAGIC:
		return "xfs", false
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs", false
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs", false
	}
	return "other", false
}

// openFiles is how many files this process may have open, ulimit -n.
func openFiles() uint64 {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return l.Cur
}
