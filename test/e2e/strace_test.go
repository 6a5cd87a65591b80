package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/test/service"
)

// TestPubackBehindCommit reads the system calls of the service: every PUBACK's
// write begins after the meta page write of a commit that began after its
// PUBLISH was read.
func TestPubackBehindCommit(t *testing.T) {
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	acks, violations := traceAcks(t, bin)
	if acks < 300 {
		t.Errorf("only %d PUBACKs seen", acks)
	}
	for _, v := range violations {
		t.Error(v)
	}
}

// TestEarlyPubackIsSeen is the control of TestPubackBehindCommit: a build that
// acknowledges before the commit must fail it.
func TestEarlyPubackIsSeen(t *testing.T) {
	bin, err := service.Build(context.Background(), t.TempDir(), EarlyAck)
	if err != nil {
		t.Fatal(err)
	}
	acks, violations := traceAcks(t, bin)
	if acks < 300 || len(violations) == 0 {
		t.Errorf("%d PUBACKs, %d of them seen to be early", acks, len(violations))
	}
}

// traceAcks publishes through a broker while the service runs under strace, and
// checks the order of its system calls.
func traceAcks(t *testing.T, bin string) (acks int, violations []string) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("strace is not installed: apt-get install strace")
	}
	w := newWorld(t, bin, service.Settings{QoS: 1})
	trace := filepath.Join(t.TempDir(), "trace")
	w.Wrap = Trace(trace)
	w.start()
	p := &Publisher{Broker: w.broker.URL, Run: "trace", QoS: 1, Topics: 3, Workers: 4}
	w.must(p.Publish(w.ctx, 400))
	w.must(func() error { _, err := w.Drained(w.ctx, 400); return err }())
	_, err := w.Stop()
	w.must(err)
	acks, violations, err = EarlyAcks(trace, w.broker.Addr)
	w.must(err)
	return acks, violations
}

// TestLogIsOnDiskBeforeConnecting: a new log is durable by its name and the
// names above it, and a commit that a kill left to the page cache is synced,
// before the first broker hears of us.
func TestLogIsOnDiskBeforeConnecting(t *testing.T) {
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, bin, service.Settings{QoS: 1})
	config := w.Config()
	text, err := os.ReadFile(config)
	w.must(err)
	deep := filepath.Join(w.Dir, "a", "b", "log")
	w.must(os.WriteFile(config, []byte(strings.Replace(string(text), w.LogDir(), deep, 1)), 0o600))
	for start, want := range [][]string{
		{"renameat deep/new/data.mdb", "fsync deep", "fdatasync deep/data.mdb"},
		{"fdatasync deep/data.mdb"},
	} {
		trace := filepath.Join(t.TempDir(), "trace")
		w.Wrap = []string{"strace", "-f", "-q", "-y", "-o", trace, "-e", "trace=renameat,fsync,fdatasync,connect"}
		w.start()
		w.Kill()
		got := untilConnect(t, trace)
		if start == 0 {
			for _, above := range []string{filepath.Dir(deep), filepath.Dir(filepath.Dir(deep)), w.Dir} {
				if !slices.Contains(got, "fsync "+above) {
					t.Errorf("new log: no sync of the directory %s: %q", above, got)
				}
			}
		}
		for _, call := range want {
			call = strings.Replace(call, "deep", deep, 1)
			i := slices.Index(got, call)
			if i < 0 {
				t.Fatalf("start %d: no %s in %q, in this order", start+1, call, got)
			}
			got = got[i+1:]
		}
	}
}

// untilConnect are the calls of a trace before the first one over TCP, as name
// and file.
func untilConnect(t *testing.T, trace string) (calls []string) {
	p, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`(?m)^\d+ +(?:(connect)\(.*AF_INET|(fsync|fdatasync)\(\d+<([^>]*)>|(renameat)\([^"]*"([^"]*)")`)
	for _, m := range call.FindAllStringSubmatch(string(p), -1) {
		if m[1] != "" {
			return calls
		}
		calls = append(calls, m[2]+m[4]+" "+m[3]+m[5])
	}
	t.Fatalf("no connect in the trace: %q", calls)
	return nil
}

// TestTraceParser: the forms in which strace shows a call.
func TestTraceParser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	text := `12 1.0 pwrite64(7<\x2f\x6c\x6f\x67\x2f\x64\x61\x74\x61\x2e\x6d\x64\x62>, "\x01\x02", 2, 4096) = 2
12 1.1 read(9<TCP:[127.0.0.1:1->127.0.0.1:2]>,  <unfinished ...>
13 1.2 write(9<TCPv6:[[::1]:1->[::1]:2]>, "\x01", 1) = 1
12 1.3 <... read resumed>"\x40\x02\x00\x01", 512) = 4
14 1.4 fdatasync(7<\x2f\x6c> <unfinished ...>
14 1.5 <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)
14 1.6 fdatasync(7<\x2f\x6c>)     = 0
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	calls, err := parseTrace(path)
	if err != nil || len(calls) != 5 || calls[1].fd != "9<TCPv6:[[::1]:1->[::1]:2]>" {
		t.Fatalf("%+v, %v", calls, err)
	}
	if c := calls[0]; c.name != "pwrite64" || c.offset != 4096 || c.fd != "7</log/data.mdb>" || string(c.data) != "\x01\x02" {
		t.Errorf("%+v", c)
	}
	if c := calls[3]; c.name != "fdatasync" || c.begin != 4 || c.end != 5 || c.result != -1 || c.failure != "EIO" {
		t.Errorf("%+v", c)
	}
	if c := calls[2]; c.name != "read" || c.begin != 1 || c.end != 3 || c.result != 4 || string(c.data) != "\x40\x02\x00\x01" {
		t.Errorf("%+v", c)
	}
}
