package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/service"
)

// A service that has nothing to do, connected to a broker and to NATS, writes nothing and
// hardly wakes up.
func TestIdle(t *testing.T) {
	const most = 5.0 // wake-ups a second
	w := productWorld(t, service.Settings{QoS: 1})
	p := &Publisher{Broker: w.broker.URL, Run: "idle", QoS: 1, Topics: 5, Workers: 5}
	w.must(p.Publish(w.ctx, 100))
	_, err := w.Drained(w.ctx, 100)
	w.must(err)
	time.Sleep(3 * time.Second) // the log stores where the consumers are

	// A busy machine makes more of each wake-up: threads look for work once more. So the
	// quietest of some windows counts.
	least := most + 1
	for range 20 {
		const window = 5 * time.Second
		woken, written := used(t, w.Pid())
		time.Sleep(window)
		wokenThen, writtenThen := used(t, w.Pid())
		if n := writtenThen - written; n > 0 {
			t.Errorf("%d bytes written in %v without a message", n, window)
		}
		if least = min(least, float64(wokenThen-woken)/window.Seconds()); least <= most {
			return
		}
	}
	t.Errorf("%.1f wake-ups a second, want %g", least, most)
}

// used is how often the threads of a process have stopped to wait, and how many
// bytes it has had written to disk.
func used(t *testing.T, pid int) (waits, written int64) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no threads of process %d: %v", pid, err)
	}
	for _, path := range tasks {
		waits += number(t, path, "voluntary_ctxt_switches")
	}
	return waits, number(t, fmt.Sprintf("/proc/%d/io", pid), "write_bytes")
}

// number reads the value of a key in a file of /proc.
func number(t *testing.T, path, key string) int64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + key + `:\s*(\d+)`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s: no %s", path, key)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
