package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/internal/config"
)

// The lines between which the tables of rates stand, in the results and in the README.
var rateMarks = marks{"<!-- rates: written by make bench-rates -->\n", "<!-- end of rates -->\n"}

func bytesASecond(m *measurement) float64 { return m.Written * m.Rate }

// rateTargets are what the program is held to at the rates that people have.
var rateTargets = []target{
	bytesTarget(10, 300e3), bytesTarget(100, 700e3), bytesTarget(1000, 1.5e6), withLimit(bytesTarget(10000, 6e6), func(results, machine) string {
		return "a message takes about 190 bytes in the log, and 170 each in SQLite's write-ahead log and in the archive, which are 5.3 MB a second before any page that is not full, index or commit."
	}),
	{what: "bytes at 1,000 messages/s: the Python script / mqttetl", bound: 5, format: "%.1f",
		value: func(r results) spread {
			return r.ratio(ratePoint(rateScript, 1000), ratePoint(rateOurs, 1000), func(m *measurement) float64 { return m.Written })
		}},
	cpuTarget(1000, 60),
	{what: "CPU a message at 1,000 messages/s: mqttetl / the Python script", atMost: true, bound: 0.5, format: "%.2f",
		value: func(r results) spread { return r.ratio(ratePoint(rateOurs, 1000), ratePoint(rateScript, 1000), cpu) }},
	cpuTarget(10000, 20),
	{what: "PUBACK p99 at 1,000 messages/s / (commit_interval + 2.5 × commit p99)", atMost: true, bound: 1, format: "%.2f",
		value: func(r results) spread {
			return r.of(ratePoint(rateOurs, 1000), func(m *measurement) float64 {
				return m.Ack.P99.Seconds() / (config.DefaultCommitInterval.Seconds() + 2.5*m.CommitP99)
			})
		}},
}

func bytesTarget(rate int, bound float64) target {
	return target{what: fmt.Sprintf("kB a second at %s messages/s", thousands(float64(rate))), atMost: true, bound: bound / 1e3, format: "%.0f",
		value: func(r results) spread {
			return r.of(ratePoint(rateOurs, rate), func(m *measurement) float64 { return bytesASecond(m) / 1e3 })
		}}
}

func withLimit(t target, limit func(results, machine) string) target {
	t.limit = limit
	return t
}

func cpuTarget(rate int, bound float64) target {
	return target{what: fmt.Sprintf("CPU µs a message at %s messages/s", thousands(float64(rate))), atMost: true, bound: bound, format: "%.0f",
		value: func(r results) spread {
			return r.of(ratePoint(rateOurs, rate), func(m *measurement) float64 { return m.CPU * 1e6 })
		}}
}

// rates is the section of the rates that people have, between its marks.
func (p *report) rates() {
	measured := func(rate int) bool { return len(p.r[ratePoint(rateOurs, rate)]) > 0 }
	if !slices.ContainsFunc(rates, measured) {
		return
	}
	p.printf("%s\n%s\n%s\n", rateMarks.begin, p.rateSection(), rateMarks.end)
}

func (p *report) rateSection() string {
	var text strings.Builder
	q := *p
	q.w = &text
	q.printf("## At the rates people have\n\nWritten by `%s` on %s. %d bytes on %d topics, published at a steady rate for %v to Mosquitto, everything at its default; medians. "+
		"Bytes are those that the process has the kernel write (`write_bytes` in /proc), those of its end included; a file system adds its journal. ",
		p.command, time.Now().UTC().Format("2006-01-02"), rateShape.Payload, topics, p.cell)
	q.printf("nats-server is the broker as well, so its CPU includes what Mosquitto's work costs the others.\n\n")
	q.printf("| messages/s | what | stored/s | bytes/msg | kB/s | GB a day | CPU µs/msg | peak RssAnon | messages a commit | PUBACK p99 |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, rate := range rates {
		for _, c := range contenders {
			q.rateRow(ratePoint(c.subject, rate))
		}
	}
	q.printf("\n")
	q.targetTable(rateTargets)
	return text.String()
}

func (p *report) rateRow(at point) {
	if len(p.r[at]) == 0 {
		return
	}
	commit, ack := "–", "–"
	if p.r[at][0].Commits > 0 {
		commit = fmt.Sprintf("%.1f", p.r.of(at, func(m *measurement) float64 { return float64(m.Messages) / m.Commits }).Median)
		ack = bracket("%.1f", p.r.of(at, func(m *measurement) float64 { return m.Ack.P99.Seconds() * 1e3 })) + " ms"
	}
	p.printf("| %s | %s | %.0f | %s | %.0f | %s | %s | %.0f MiB | %s | %s |\n", thousands(float64(at.rate)), at.subject,
		p.r.of(at, rate).Median, bracket("%.0f", p.r.of(at, func(m *measurement) float64 { return m.Written })),
		p.r.of(at, bytesASecond).Median/1e3, p.gigabytes(at), bracket("%.0f", p.r.of(at, func(m *measurement) float64 { return m.CPU * 1e6 })),
		p.r.of(at, mebibytes).Median, commit, ack)
}

// gigabytes is what is written a day at a rate, of all that comes: what stores
// less than that falls behind.
func (p *report) gigabytes(at point) string {
	const day, enough = 86400, 0.95
	text := fmt.Sprintf("%.1f", p.r.of(at, bytesASecond).Median*day/1e9)
	if p.r.of(at, rate).Median < enough*float64(at.rate) {
		return "falls behind"
	}
	return strings.TrimSuffix(text, ".0")
}

// rateSummary is the table for whoever wonders how long a drive lasts.
func (p *report) rateSummary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| GB written a day, %d-byte messages |", rateShape.Payload)
	for _, rate := range rates {
		fmt.Fprintf(&b, " %s/s |", thousands(float64(rate)))
	}
	fmt.Fprintf(&b, "\n|---|%s\n", strings.Repeat("---|", len(rates)))
	for _, c := range contenders {
		fmt.Fprintf(&b, "| %s |", c.subject)
		for _, rate := range rates {
			fmt.Fprintf(&b, " %s |", p.gigabytes(ratePoint(c.subject, rate)))
		}
		b.WriteString("\n")
	}
	return b.String()
}
