package replay

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl"
)

// A file of something else is never called damaged, and nobody is told to
// delete it.
func TestNoResumeFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	plan := Plan{Settings: "s", LogID: "l"}
	if err := create(path, plan); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	no, yes := ErrNoResume, mqttetl.ErrDamaged
	for text, want := range map[string]error{
		"": no, "sources: []\nlog: {dir: /var}\n": no, strings.Repeat("x", 300) + "\n": no, "{\"name\":1}\n": no,
		string(whole[:len(whole)-1]): yes, string(whole) + "x": yes, beginning: yes, strings.Replace(string(whole), "}", "", 1): yes,
		strings.ReplaceAll(string(whole), "pass", "gone"): yes,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenResume(path, plan)
		if errors.Is(err, no) != (want == no) || errors.Is(err, yes) != (want == yes) || mqttetl.Hint(err) == "" || strings.Contains(mqttetl.Hint(err), "delete") {
			t.Errorf("%.30q: %v; hint: %s", text, err, mqttetl.Hint(err))
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != text {
			t.Errorf("%.30q has become %.30q, %v", text, left, err)
		}
	}
}

// The rename that makes the file may take no place but an empty one.
func TestResumeFileIsRegular(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	plan := Plan{Settings: "s", LogID: "l"}
	if err := errors.Join(unix.Mkfifo(in("fifo"), 0o600), os.Symlink(in("fifo"), in("to fifo")), os.Symlink("/dev/null", in("to device")),
		os.Symlink(in("none"), in("dangling")), os.Symlink(in("regular"), in("link"))); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, "/dev/null", in("fifo"), in("to fifo"), in("to device"), in("dangling")} {
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = OpenResume(path, plan)
		if after, e := os.Lstat(path); !errors.Is(err, ErrNoResume) || e != nil || after.Mode() != before.Mode() {
			t.Errorf("%s: %v, %v", path, err, e)
		}
	}
	for _, name := range []string{"regular", "link", "link"} {
		r, err := OpenResume(in(name), plan)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Record(Position{Seq: r.Position().Seq + 1}), r.Close()); err != nil {
			t.Fatal(err)
		}
	}
	r, err := OpenResume(in("regular"), plan)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if st, err := os.Lstat(in("link")); err != nil || st.Mode()&os.ModeSymlink == 0 || r.Position().Seq != 3 {
		t.Errorf("the link is not one any more, or position 3 is %d: %v", r.Position().Seq, err)
	}
}

// The last position before a silence becomes durable in it, not behind it.
func TestPositionIsSyncedInASilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := OpenResume(filepath.Join(t.TempDir(), "position"), Plan{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		p := NewPlayer(Config{Resume: r})
		played := make(chan struct{})
		ended := make(chan error, 1)
		go func() { ended <- p.record(played) }()
		for seq := range mqttetl.Seq(3) {
			p.Confirmed(seq+1, 1)
			synctest.Wait()
		}
		time.Sleep(syncEvery)
		synctest.Wait()
		if r.Position().Seq != 3 || r.unsynced {
			t.Errorf("position %d, not durable after %v: %v", r.Position().Seq, syncEvery, r.unsynced)
		}
		close(played)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Two replays that write one position would each go on from the other's.
func TestResumeFileOfOneReplay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "position")
	one, err := OpenResume(path, Plan{})
	if err != nil {
		t.Fatal(err)
	}
	if two, err := OpenResume(path, Plan{}); !errors.Is(err, mqttetl.ErrLocked) {
		t.Errorf("a second one: %v, %v", two, err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	two, err := OpenResume(path, Plan{})
	if err != nil {
		t.Fatal(err)
	}
	two.Close()
}
