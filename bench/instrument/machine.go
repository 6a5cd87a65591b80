package instrument

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is what the numbers depend on.
type Machine struct {
	CPU        string     `json:"cpu"`
	Cores      int        `json:"cores"`
	Memory     int64      `json:"memory_bytes"`
	Kernel     string     `json:"kernel"`
	FileSystem string     `json:"file_system"` // under the servers that were started
	InMemory   bool       `json:"in_memory"`   // that file system is: "synced" means nothing on it
	Go         string     `json:"go"`
	Load       [3]float64 `json:"load"` // averages of 1, 5, 15 minutes before the run
	LoadAfter  [3]float64 `json:"load_after"`
	OpenFiles  uint64     `json:"open_files"` // ulimit -n
}

// Inspect describes this machine; dir is where the servers keep their files.
func Inspect(dir string) Machine {
	m := Machine{CPU: cpuModel(), Cores: runtime.NumCPU(), Go: runtime.Version(), Load: LoadAverages()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	m.FileSystem, m.InMemory = FileSystem(dir)
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		m.OpenFiles = l.Cur
	}
	return m
}

// LoadAverages are those of 1, 5 and 15 minutes.
func LoadAverages() (load [3]float64) {
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

var fileSystems = map[int64]string{
	unix.TMPFS_MAGIC: "tmpfs", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs",
	unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
}

// FileSystem names the file system that dir is on.
func FileSystem(dir string) (name string, inMemory bool) {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return "unknown", false
	}
	if name = fileSystems[s.Type]; name == "" {
		name = "other"
	}
	return name, s.Type == unix.TMPFS_MAGIC
}
