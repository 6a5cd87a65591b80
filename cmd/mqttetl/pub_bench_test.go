package main

import (
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
)

// BenchmarkPubLines publishes the same lines with QoS 1 by mqttetl pub -l and by
// mosquitto_pub -l in turn, as processes, and reports how many times as fast
// mqttetl is. More lines than these mosquitto_pub 2.0.11 loses now and then,
// with exit code 0.
func BenchmarkPubLines(b *testing.B) {
	m, err := servers.StartMosquitto(b.TempDir(), "max_queued_messages 0")
	if err != nil {
		b.Fatal(err)
	}
	defer m.Kill()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(m.Addr)
	const lines = 20000
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "%0128d\n", i)
	}
	var ours, theirs time.Duration
	run := func(took *time.Duration, program string, args ...string) {
		cmd := osexec.Command(program, append(args, "-h", host, "-p", port, "-t", "bench", "-q", "1", "-l")...)
		cmd.Stdin = strings.NewReader(text.String())
		began := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%s (apt-get install mosquitto-clients): %v: %s", cmd, err, out)
		}
		*took += time.Since(began)
	}
	for b.Loop() {
		run(&theirs, "mosquitto_pub")
		run(&ours, self, "pub")
	}
	b.ReportMetric(float64(lines*b.N)/ours.Seconds(), "mqttetl-msg/s")
	b.ReportMetric(float64(lines*b.N)/theirs.Seconds(), "mosquitto_pub-msg/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "times-as-fast")
}
