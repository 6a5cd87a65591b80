package archive

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// childPath makes the test binary a child that opens the archive, adds what
// childCommits asks for and is gone without closing it, as by a kill.
const (
	childPath    = "MQTTETL_TEST_ARCHIVE_PATH"
	childCommits = "MQTTETL_TEST_ARCHIVE_COMMITS"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		os.Exit(child(path, len(os.Getenv(childCommits))))
	}
	os.Exit(m.Run())
}

func child(path string, commits int) int {
	a, err := Open(path, testLog)
	for i := 0; err == nil && i < commits; i++ {
		seq := a.Cursor() + 1
		if err = a.Append([]mqttetl.Record{record(seq, "t", "p")}); err == nil {
			err = a.Commit()
		}
	}
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		return 1
	}
	return 0
}

// syncs counts the syncs of the write-ahead log in a child.
func syncs(t *testing.T, path, commits string) int {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	trace := filepath.Join(t.TempDir(), "trace")
	c := exec.Command("strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", trace, exe)
	c.Env = append(os.Environ(), childPath+"="+path, childCommits+"="+commits)
	out, err := c.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Fatal("strace is missing: apt-get install strace")
	}
	if err != nil {
		t.Fatalf("child: %v\n%s", err, out)
	}
	data, err := os.ReadFile(trace)
	must(t, err)
	return strings.Count(string(data), walSuffix+">")
}

// What is said to be durable was synced: each commit, and, before Open reports
// a cursor, the commits that it found in the write-ahead log of a killed process.
func TestSyncs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	syncs(t, path, "x")
	opening := syncs(t, path, "")
	if opening == 0 {
		t.Error("Open does not sync the write-ahead log that it found")
	}
	if n := syncs(t, path, "xxxxx") - opening; n < 5 {
		t.Errorf("%d syncs of the write-ahead log in 5 commits", n)
	}
	sound(t, path, 6)
}
