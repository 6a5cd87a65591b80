package wal

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/PowerDNS/lmdb-go/lmdb"

	"github.com/mqttetl/mqttetl"
)

// TestReaderProcess is what the tests below start: it holds snapshots of the log until it
// is killed.
func TestReaderProcess(t *testing.T) {
	dir, slots := os.Getenv("MQTTETL_TEST_READER"), 0
	if dir == "" {
		return
	}
	r, err := openReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	most := 1
	if os.Getenv("MQTTETL_TEST_READERS") != "" {
		most = 200
	}
	var held []*lmdb.Txn
	for ; slots < most; slots++ {
		txn, err := r.env.BeginTxn(nil, lmdb.Readonly)
		if err != nil {
			break
		}
		held = append(held, txn)
	}
	fmt.Println("holds", len(held))
	select {}
}

// holder starts a process that holds one snapshot, or all slots that are left.
func holder(t *testing.T, dir string, all bool) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestReaderProcess$")
	cmd.Env = append(os.Environ(), "MQTTETL_TEST_READER="+dir)
	if all {
		cmd.Env = append(cmd.Env, "MQTTETL_TEST_READERS=all")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	var n int
	if _, err := fmt.Fscanf(out, "holds %d", &n); err != nil || n == 0 {
		t.Fatalf("the reader holds %d snapshots, %v", n, err)
	}
	return cmd
}

// TestOldSnapshot: a reader that stands still with a snapshot makes neither the file grow
// without end nor its holder a secret, and when it is gone the log goes on.
func TestOldSnapshot(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, Options{MaxSize: 8 << 20, Consumers: []string{"c"}})
	c := r.Consumer("c")
	c.Seek(0)
	r.put("s", "before")
	reader := holder(t, dir, false)
	limit := r.fileLimit(0)
	payload := strings.Repeat("x", 1<<20)
	var waiting chan outcome
	for n := mqttetl.Seq(1); ; n++ {
		var b *mqttetl.Batch
		b, waiting = batch("s", payload)
		r.Append(b)
		r.until("commits or pauses", func(s Stats) bool { return s.Paused || s.Last == n+1 })
		if r.Stats().Paused {
			break
		}
		r.await(waiting)
		c.Commit(n + 1)
		if s := r.Stats(); s.File > limit {
			t.Fatalf("the file has %d bytes, want at most %d", s.File, limit)
		}
	}
	name := fmt.Sprintf("process %d (", reader.Process.Pid)
	r.until("names the reader", func(s Stats) bool { return strings.Contains(s.PauseReason, name) && strings.Contains(s.HeldBy, name) })
	if len(waiting) > 0 {
		t.Fatalf("acknowledged without room: %+v", <-waiting)
	}
	reader.Process.Kill()
	reader.Wait()
	r.await(waiting)
	r.until("forgets the reader", func(s Stats) bool { return s.HeldBy == "" && !s.Paused })
}

// TestReadersFull: other processes that take all slots of readers do not stop the log.
func TestReadersFull(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, Options{Consumers: []string{"c"}})
	c := r.Consumer("c")
	c.Seek(0)
	reader := holder(t, dir, true)
	for i := range 3 {
		r.put("s", fmt.Sprint(i))
		read(t, c, 1)
	}
	if _, err := r.PacketIDs("s"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestInspectProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "MQTTETL_TEST_INSPECT="+dir)
	out, _ := cmd.CombinedOutput()
	if want := fmt.Sprintf("process %d (", reader.Process.Pid); !strings.Contains(string(out), want) || !strings.Contains(string(out), "all slots for readers are taken") {
		t.Errorf("another reader is told %s, want it to name %s", out, want)
	}
}

// TestInspectProcess inspects a log as another process.
func TestInspectProcess(t *testing.T) {
	if dir := os.Getenv("MQTTETL_TEST_INSPECT"); dir != "" {
		info, err := Inspect(dir)
		t.Logf("%+v, %v", info, err)
	}
}

// TestOldSnapshotsThatComeAndGo: they are not said each time.
func TestOldSnapshotsThatComeAndGo(t *testing.T) {
	var said strings.Builder
	r := open(t, t.TempDir(), Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	for range 100 {
		r.name([]int{os.Getpid()})
		if !strings.Contains(r.Stats().HeldBy, strconv.Itoa(os.Getpid())) {
			t.Fatalf("held by %q", r.Stats().HeldBy)
		}
		r.name(nil)
	}
	if n := strings.Count(said.String(), "snapshot of the log is held") + strings.Count(said.String(), "a reader keeps"); n != 2 {
		t.Errorf("%d lines, want one when it begins and one when it is over:\n%s", n, said.String())
	}
}
