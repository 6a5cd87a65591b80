package wal

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// TestOverQuota has strace answer EDQUOT for some calls on the log's file, as a file
// system does to a user that is over quota. The log pauses and goes on by itself.
// Only a meta page that was not written ends it; then the next one has all
// that was acknowledged.
func TestOverQuota(t *testing.T) {
	const inside = "MQTTETL_TEST_QUOTA"
	if dir := os.Getenv(inside); dir != "" {
		overQuota(t, dir)
		return
	}
	for call, when := range map[string]string{"fallocate": "1..40", "writev": "2..5", "pwrite64": "2..5", "fdatasync": "2..5"} {
		t.Run(call, func(t *testing.T) {
			dir := t.TempDir()
			l, err := Open(dir, Options{Consumers: []string{"c"}})
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			cmd := exec.Command("strace", "-f", "-qqq", "-o", "/dev/null", "-P", filepath.Join(dir, dataFile),
				"-e", "trace="+call, "-e", "inject="+call+":error=EDQUOT:when="+when,
				os.Args[0], "-test.run=^TestOverQuota$", "-test.v")
			cmd.Env = append(os.Environ(), inside+"="+dir)
			out, err := cmd.CombinedOutput()
			text := string(out)
			if err != nil || !strings.Contains(text, "--- PASS: TestOverQuota") {
				t.Fatalf("%v (needs strace: apt-get install strace)\n%s", err, text)
			}
			if paused, ended := strings.Contains(text, "has paused"), strings.Contains(text, "has ended"); ended && call != "pwrite64" || !paused && !ended {
				t.Errorf("paused %v, ended %v; want a pause\n%s", paused, ended, text)
			}
		})
	}
}

// overQuota appends to the log in dir and checks that all of it is there in the end.
func overQuota(t *testing.T, dir string) {
	r := open(t, dir, Options{Consumers: []string{"c"}})
	paused, n := false, mqttetl.Seq(0)
	for n < 40 {
		b, waiting := batch("s", strings.Repeat("x", 200<<10))
		r.Append(b)
		r.until("commits", func(s Stats) bool {
			paused = paused || s.Paused
			return len(waiting) > 0
		})
		o := <-waiting
		if o.err == nil {
			n++
			continue
		}
		var code unix.Errno
		if !errors.As(o.err, &code) || code != unix.EIO {
			t.Fatalf("record %d: %v", n+1, o.err)
		}
		t.Logf("the log has ended after %d records: %v", n, o.err)
		r.close()
		r = open(t, dir, Options{Consumers: []string{"c"}})
		if last := r.Stats().Last; last != n && last != n+1 { // n+1: written, and not acknowledged
			t.Fatalf("last record %d, acknowledged %d", last, n)
		}
		n = r.Stats().Last
	}
	if paused {
		t.Log("the log has paused")
	}
	verify(t, r, dir, n)
}
