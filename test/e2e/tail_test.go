package e2e

import (
	"bufio"
	"fmt"
	"os/exec"
	"slices"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/test/service"
)

// Tail prints what the service has recorded last and then what it records, each
// message once, in order.
func TestTailFollowsTheRunningService(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1})
	messages := func(from, to int) (recs []mqttetl.Record) {
		for i := from; i < to; i++ {
			recs = append(recs, mqttetl.Record{Seq: mqttetl.Seq(i + 1), Message: mqttetl.Message{
				Topic: fmt.Appendf(nil, "e2e/%d", i%2), Payload: fmt.Append(nil, i), Flags: 1}})
		}
		return recs
	}
	const before, more = 10, 3000
	recordAll(w, messages(0, before))

	// Of the topic e2e/0 the last two there are, and all that come.
	cmd := exec.CommandContext(w.ctx, w.Bin, "tail", "-c", w.Config(), "-t", "e2e/0", "--last", "2", "-C", fmt.Sprint(2+more/2), "-v")
	out, err := cmd.StdoutPipe()
	w.must(err)
	w.must(cmd.Start())
	lines := bufio.NewScanner(out)
	var got []string
	read := func() bool {
		if !lines.Scan() {
			return false
		}
		got = append(got, lines.Text())
		return true
	}
	for range 2 { // it follows from here on
		if !read() {
			t.Fatalf("tail ended after %q: %v", got, cmd.Wait())
		}
	}
	recordAll(w, messages(before, before+more))
	for read() {
		continue
	}
	w.must(cmd.Wait())

	var want []string
	for i := before - 4; i < before+more; i += 2 {
		want = append(want, fmt.Sprintf("e2e/0 %d", i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d lines %.200q, want %d %.200q", len(got), got, len(want), want)
	}
}
