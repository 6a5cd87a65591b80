package transform

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
)

// bombs are programs and messages that end a process, by kind of death.
var bombs = []struct{ name, program, bomb, want string }{
	{"compare", "[.n as $n | reduce range($n) as $i (0; [.]) | . == .]", `{"n":400000}`, "recursed too deep"},
	{"sort", "[.n as $n | reduce range($n) as $i (0; [.]) | [., .] | sort | length]", `{"n":400000}`, "recursed too deep"},
	{"tojson", "[.n as $n | reduce range($n) as $i (0; [.]) | tojson | length]", `{"n":400000}`, "recursed too deep"},
	{"repeat", `["s" * .n | length]`, `{"n":500000000}`, "needed too much memory"},
	{"repeat long text", `[.s * .n | length]`, `{"n":5000000,"s":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}`, "needed too much memory"},
	{"index", "[.n as $n | [] | .[$n] = 1 | length]", `{"n":500000000}`, "needed too much memory"},
	{"flatten", "[.n as $n | reduce range($n) as $i ([0,0,0,0,0,0,0,0]; [., ., .]) | flatten | length]", `{"n":16}`, "needed too much memory"},
	{"range", "[range(.n)] | length", `{"n":100000000}`, "needed too much memory"},
	{"difference", "[range(.n)] as $a | ($a - ($a | map(-1 - .)) | length)", `{"n":100000}`, "took too long"},
}

// A message that ends the process is a dead letter that says why. Those before and
// after it have their rows, in their order.
func TestBombsAreDeadLetters(t *testing.T) {
	for _, b := range bombs {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := values("ANY .x")
			r.Map = "{x: (" + b.program + ")}"
			a := applier(t, Options{TimeLimit: limitOf(b.want)}, r)
			checkBomb(t, a, `{"n":1,"s":"a"}`, b.bomb, b.want)
		})
	}
}

func limitOf(want string) time.Duration {
	if want == "took too long" {
		return 500 * time.Millisecond
	}
	return 30 * time.Second
}

// checkBomb applies good messages with a bomb among them, as the batcher does.
func checkBomb(t *testing.T, a *Applier, good, bomb, want string) {
	t.Helper()
	recs := records(t, 9, good)
	recs[4].Payload = []byte(bomb)
	a.Ahead(recs)
	for i := range recs {
		a.Apply(&recs[i])
	}
	as := func(why string) bool { return len(a.Failures) == 1 && strings.Contains(a.Failures[0].Err.Error(), why) }
	if len(a.Failures) != 1 || a.Failures[0].Seq != recs[4].Seq || !as(want) && !(underRace && as("needed too much memory")) {
		t.Fatalf("%d failures, %s", len(a.Failures), show(a))
	}
	if got := rowsOf(a); got != "1 2 3 4 6 7 8 9" {
		t.Errorf("rows of %s", got)
	}
}

// The same in a condition, in a column, in the path of the time, and in what is published.
func TestBombsAnywhere(t *testing.T) {
	const bomb = `("s" * .n | length)`
	when := values("INTEGER .n")
	when.When = bomb + " > 0"
	column := values("INTEGER " + bomb)
	at := values("INTEGER .n")
	at.Time = Time{Path: bomb, NotBefore: "any"}
	for name, r := range map[string]Route{"when": when, "column": column, "time": at} {
		t.Run(name, func(t *testing.T) {
			checkBomb(t, applier(t, Options{TimeLimit: time.Minute}, r), `{"n":1}`, `{"n":500000000}`, "needed too much memory")
		})
	}
}

// The worker may be killed by anybody, at any moment: no record is blamed for it,
// nor lost, nor twice.
func TestWorkerIsKilled(t *testing.T) {
	r := values("ANY .n")
	r.Map = "{n}"
	a := applier(t, Options{}, r)
	recs := records(t, 3000, `{"n":1}`)
	a.Ahead(recs)
	for i := range recs {
		if i%100 == 50 {
			if err := a.worker.child.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		a.Apply(&recs[i])
	}
	if len(a.Failures) > 0 || a.Rows[0].Len() != len(recs) {
		t.Fatalf("%d rows, %v", a.Rows[0].Len(), a.Failures)
	}
	for i := range recs {
		if got := a.Rows[0].Row(i)[0].Int(); got != int64(recs[i].Seq) {
			t.Fatalf("row %d is of record %d", i, got)
		}
	}
}

// A worker that does not move is ended; what it was at is a dead letter.
func TestWorkerIsStopped(t *testing.T) {
	r := values("ANY .n")
	r.Map = "{n}"
	a := applier(t, Options{TimeLimit: 50 * time.Millisecond}, r)
	recs := records(t, 3, `{"n":1}`)
	a.Apply(&recs[0])
	if err := a.worker.child.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	awaitStopped(t, a.worker.child.cmd.Process.Pid)
	a.Apply(&recs[1])
	a.Apply(&recs[2])
	if got := rowsOf(a); got != "1 3" || len(a.Failures) != 1 || !strings.Contains(show(a), "did not end in time") {
		t.Errorf("rows of %s, %s", got, show(a))
	}
}

// awaitStopped returns when a process that was sent SIGSTOP has stopped, with all its threads.
func awaitStopped(t *testing.T, pid int) {
	t.Helper()
	for {
		running := false
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(threads) == 0 {
			t.Fatalf("threads of process %d: %d, %v", pid, len(threads), err)
		}
		for _, path := range threads {
			stat, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, state, _ := strings.Cut(string(stat), ") ")
			running = running || !strings.HasPrefix(state, "T")
		}
		if !running {
			return
		}
		runtime.Gosched()
	}
}

// A route whose programs keep dying is suspended, with what they do; others are not.
func TestDeathsSuspend(t *testing.T) {
	bad, other := values("ANY .x"), values("ANY .x")
	bad.Map = `{x: ("s" * .n | length)}`
	other.Name, other.Table, other.Map = "other", "y", "{x: .n}"
	a := applier(t, Options{TimeLimit: time.Minute}, bad, other)
	recs := records(t, 40, `{"n":500000000}`)
	a.Ahead(recs)
	for i := range recs {
		a.Apply(&recs[i])
	}
	if len(a.Failures) != len(recs) || a.Rows[1].Len() != len(recs) {
		t.Fatalf("%d failures, %d rows of the other route", len(a.Failures), a.Rows[1].Len())
	}
	for i, f := range a.Failures {
		want := "needed too much memory: more than 160 MiB"
		if i >= maxStrikes {
			want = "not tried: the route is suspended for 1m0s, because its jq programs " + want
		}
		if !strings.Contains(f.Err.Error(), want) || f.Route != "r" || f.Seq != recs[i].Seq {
			t.Fatalf("failure %d: %s of %d: %v", i, f.Route, f.Seq, f.Err)
		}
	}
}

// Records that come again, that were not announced, or not in their turn, are as
// those that were.
func TestAheadIsNoPromise(t *testing.T) {
	r := values("ANY .n")
	r.Map = "{n}"
	a := applier(t, Options{}, r)
	recs := records(t, 600, `{"n":1}`)
	a.Ahead(recs)
	for _, i := range []int{0, 1, 2, 7, 8, 500, 3, 4} {
		a.Apply(&recs[i])
	}
	a.Ahead(recs[2:])
	a.Apply(&recs[2])
	a.Apply(&recs[3])
	if got := rowsOf(a); got != "1 2 3 8 9 501 4 5 3 4" {
		t.Errorf("rows of %s", got)
	}
}

// What waits for the worker is bounded.
func TestAheadIsBounded(t *testing.T) {
	r := values("ANY .n")
	r.Map = "{n}"
	a := applier(t, Options{}, r)
	recs := records(t, 5000, `{"n":1,"s":"`+strings.Repeat("x", 20_000)+`"}`)
	a.Ahead(recs)
	for i := range recs[:200] {
		if n := a.worker.bytes; n > windowBytes+25_000 {
			t.Fatalf("%d bytes wait", n)
		}
		a.Apply(&recs[i])
	}
}

// The documents of formats that the worker cannot decode arrive as they are.
func TestDocumentsOnTheWire(t *testing.T) {
	for _, f := range []string{"sparkplug_b", "protobuf"} {
		if !handsDocuments(f) {
			t.Errorf("%s", f)
		}
	}
	docs := []any{nil, true, false, -1, 1.5, "text", []any{1, []any{}, map[string]any{"a": nil, "b": []any{"c"}}}}
	p := []byte{byte(len(docs))}
	for _, d := range docs {
		p = appendDoc(p, d)
	}
	var got []any
	must(t, documents{}.Decode("", p, func(d any) error { got = append(got, d); return nil }))
	if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", docs) {
		t.Errorf("got %#v", got)
	}
	for n := range p {
		if err := (documents{}).Decode("", p[:n], func(any) error { return nil }); err == nil {
			t.Errorf("%d of %d bytes are no error", n, len(p))
		}
	}
}

// The worker has a bound of its own memory and takes the blame of the kernel.
func TestWorkerHasLimits(t *testing.T) {
	r := values("ANY .n")
	r.Map = "{n}"
	a := applier(t, Options{}, r)
	a.Apply(record("t", `{"n":1}`))
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", a.worker.child.cmd.Process.Pid))
	must(t, err)
	var soft, hard uint64
	_, line, _ := strings.Cut(string(p), "Max address space")
	if fmt.Sscan(line, &soft, &hard); soft != hard || soft < workerMemory || soft > 16<<30 {
		t.Errorf("address space may have %d, %d bytes", soft, hard)
	}
}

// records are n of the topic t.
func records(t *testing.T, n int, payload string) []mqttetl.Record {
	t.Helper()
	list := make([]mqttetl.Record, n)
	for i := range list {
		list[i] = *record("t", payload)
		list[i].Seq = mqttetl.Seq(i + 1)
	}
	return list
}

// rowsOf are the records of the rows of the first table.
func rowsOf(a *Applier) string {
	var list []string
	for i := range a.Rows[0].Len() {
		list = append(list, fmt.Sprint(a.Rows[0].Row(i)[0].Int()))
	}
	return strings.Join(list, " ")
}

// Whatever it is at, a worker stays small. A process begins with the peak of the
// one that starts it, so that has to be a small one.
func TestBombsTakeLittleMemory(t *testing.T) {
	const apart = "MQTTETL_TEST_BOMBS"
	if os.Getenv(apart) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestBombsTakeLittleMemory$", "-test.v")
		cmd.Env = append(os.Environ(), apart+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	for _, b := range bombs {
		r := values("ANY .x")
		r.Map = "{x: (" + b.program + ")}"
		a := applier(t, Options{TimeLimit: limitOf(b.want)}, r)
		a.Apply(record("t", b.bomb))
		a.Close()
	}
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u))
	if peak := u.Maxrss >> 10; peak > 224 {
		t.Errorf("a worker took %d MiB", peak)
	}
}
