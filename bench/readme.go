package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// marks are the lines of a document between which a table stands.
type marks struct{ begin, end string }

var speedMarks = marks{"<!-- speed: written by make bench -->\n", "<!-- end of speed -->\n"}

// summary is the table for whoever wants to know whether it is fast enough.
func (p *report) summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %d-byte messages of QoS 1 | messages/s | CPU µs a message | memory |\n|---|---|---|---|\n", targetShape.Payload)
	for _, row := range []struct {
		what string
		at   point
	}{
		{"in the log, acknowledged", logPoint},
		{"… and in SQLite", archivePoint},
		{"… and in JetStream", streamPoint},
		{"… and in both", allPoint},
		{"for comparison: read and not stored", nullPoint},
		{"for comparison: appended to a file and synced", floorPoint},
	} {
		fmt.Fprintf(&b, "| %s | %s | %.2f | %.0f MiB |\n", row.what, thousands(p.r.of(row.at, rate).Median),
			micros(p.r, row.at), p.r.of(row.at, mebibytes).Median)
	}
	return fmt.Sprintf("%s\n%s, %d cores that the sender and nats-server share, a disk that writes %.0f MB/s. At 10,000 messages a second, archive and JetStream included, a PUBACK\nleaves within %.1f ms (p50) and %.1f ms (p99), and it takes %.0f MiB.\n",
		&b, p.m.CPU, p.m.Cores, p.m.DiskRate/1e6,
		p.r.of(pacedAll, func(m *measurement) float64 { return m.Latency.P50.Seconds() * 1e3 }).Median,
		p.r.of(pacedAll, func(m *measurement) float64 { return m.Latency.P99.Seconds() * 1e3 }).Median,
		p.r.of(pacedAll, mebibytes).Median)
}

// thousands is a whole number of three significant digits, with commas.
func thousands(v float64) string {
	unit := 1.0
	for v/unit >= 1000 {
		unit *= 10
	}
	s := fmt.Sprintf("%.0f", float64(int(v/unit+0.5))*unit)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// putTable replaces what stands between the marks in a file.
func putTable(path string, at marks, table string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(text, []byte(at.begin))
	_, after, ends := bytes.Cut(rest, []byte(at.end))
	if !begins || !ends {
		return fmt.Errorf("%s: no place for a table: %s", path, bytes.TrimSpace([]byte(at.begin)))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\n%s\n%s%s", before, at.begin, table, at.end, after)
	return os.WriteFile(path, b.Bytes(), 0o644)
}
