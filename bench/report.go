package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// A report is RESULTS.md.
type report struct {
	w       io.Writer
	r       results
	m       machine
	command string
	rounds  int
	took    time.Duration
	cell    time.Duration // of a rate
}

func (p *report) printf(format string, args ...any) { fmt.Fprintf(p.w, format, args...) }

func (p *report) write() {
	p.head()
	p.targets()
	p.stages()
	p.broker()
	p.latency()
	p.rates()
	p.commands()
	p.routes()
	p.backlog()
	p.method()
}

func (p *report) head() {
	p.printf("# Results\n\nWritten by `%s` on %s, in %v. Medians of %d rounds, in brackets the lowest and the highest.\n\n",
		p.command, time.Now().UTC().Format("2006-01-02"), p.took.Round(time.Second), p.rounds)
	p.printf("%s, %d cores, %.0f GiB, %s, %s: %.0f MB/s written and synced, %.0f MB/s after a rest, one fdatasync %.2f ms (%.2f–%.2f).\n\n%s.\n\n",
		p.m.CPU, p.m.Cores, float64(p.m.Memory)/(1<<30), p.m.Kernel, p.m.FileSystem, p.m.DiskRate/1e6, p.m.Burst/1e6,
		p.m.Sync.Median*1e3, p.m.Sync.Low*1e3, p.m.Sync.High*1e3, strings.Join(p.m.Versions, ", "))
}

func (p *report) targets() {
	p.printf("## Targets\n\n128 bytes, window 10,000 unless said. Ratios are within one round.\n\n")
	p.targetTable(targets)
}

func (p *report) targetTable(all []target) {
	p.printf("| what | target | result | |\n|---|---|---|---|\n")
	var limits []string
	for _, t := range all {
		v := t.value(p.r)
		verdict := t.verdict(v.Median)
		sign := "≥"
		if t.atMost {
			sign = "≤"
		}
		p.printf("| %s | %s "+t.format+" | %s | %s |\n", t.what, sign, t.bound, bracket(t.format, v), verdict)
		if t.limit != nil && strings.Contains(verdict, "missed") {
			limits = append(limits, fmt.Sprintf("* %s: %s", t.what, t.limit(p.r, p.m)))
		}
	}
	if len(limits) > 0 {
		p.printf("\nWhat is in the way:\n\n%s\n", strings.Join(limits, "\n"))
	}
	p.printf("\n")
}

// bracket is a median with its spread, the median alone where there is none.
func bracket(format string, s spread) string {
	if math.IsNaN(s.Median) {
		return "–"
	}
	v := fmt.Sprintf(format, s.Median)
	low, high := fmt.Sprintf(format, s.Low), fmt.Sprintf(format, s.High)
	if low == v && high == v {
		return v
	}
	return fmt.Sprintf("%s (%s–%s)", v, low, high)
}

// subjects are the rows of the tables of stages.
func subjects() []subject {
	s := []subject{nullSubscriber, writeAndSync}
	for _, st := range stages {
		s = append(s, subject(st.name))
	}
	return append(s, barePublisher)
}

func (p *report) stages() {
	p.printf("## Stages\n\nmsg/s is from the first PUBLISH to the last record in the last store; acknowledged, to the last PUBACK. Ratios are to the null subscriber and to \"write and sync\" of the same round.\n\n")
	for _, payload := range payloads {
		if len(p.r[point{nullSubscriber, shape{payload, windows[0]}, 0}])+len(p.r[point{nullSubscriber, shape{payload, windows[len(windows)-1]}, 0}]) == 0 {
			continue
		}
		p.printf("### %d bytes\n\n| window | what | msg/s | / null | / sync | acknowledged/s | CPU µs/msg | / null | / sync | allocs/msg | bytes written/msg | peak RssAnon |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n", payload)
		for _, w := range windows {
			for _, s := range subjects() {
				p.stage(point{s, shape{payload, w}, 0})
			}
		}
		p.printf("\n")
	}
}

func (p *report) stage(at point) {
	if len(p.r[at]) == 0 {
		return
	}
	null, sync := point{nullSubscriber, at.shape, 0}, point{writeAndSync, at.shape, 0}
	allocs, written := "–", "–"
	if p.r[at][0].Allocs > 0 {
		allocs = fmt.Sprintf("%.3f", p.r.of(at, func(m *measurement) float64 { return m.Allocs }).Median)
		written = fmt.Sprintf("%.0f", p.r.of(at, func(m *measurement) float64 { return m.Written }).Median)
	}
	p.printf("| %d | %s | %s | %.3f | %.2f | %.0f | %s | %.1f | %.1f | %s | %s | %.0f MiB |\n", at.shape.Window, at.subject,
		bracket("%.0f", p.r.of(at, rate)), p.r.ratio(at, null, rate).Median, p.r.ratio(at, sync, rate).Median, p.r.of(at, acked).Median,
		bracket("%.3f", p.r.of(at, func(m *measurement) float64 { return m.CPU * 1e6 })), p.r.ratio(at, null, cpu).Median, p.r.ratio(at, sync, cpu).Median,
		allocs, written, p.r.of(at, mebibytes).Median)
}

func (p *report) broker() {
	if len(p.r[brokerPoint(nullAtBroker)]) == 0 {
		return
	}
	p.printf("## Behind Mosquitto\n\n%d bytes, receive maximum %d, a publisher that is faster than the broker, all on this machine.\n\n", brokerShape.Payload, brokerShape.Window)
	p.printf("| what | acknowledged/s | × null | CPU µs/msg | drained after |\n|---|---|---|---|---|\n")
	for _, s := range []subject{nullAtBroker, archiveAtBroker, allAtBroker} {
		at := brokerPoint(s)
		p.printf("| %s | %s | %.3f | %.2f | %s |\n", s, bracket("%.0f", p.r.of(at, acked)),
			p.r.ratio(at, brokerPoint(nullAtBroker), acked).Median, p.r.of(at, cpu).Median*1e6, bracket("%.2f s", p.r.of(at, drained)))
	}
	p.printf("\n")
}

func (p *report) latency() {
	if len(p.r[pacedLog]) == 0 {
		return
	}
	p.printf("## Latency\n\nOpen loop, from when a message was to be sent. PUBACK: read by the server that sent the message, loopback and that server's own lateness included. From received: as mqttetl_puback_seconds counts it, from the read of a message to the write of its PUBACK. Row: a reader of the archive sees it; the archive commits every 250 ms. Stream: a consumer has it.\n\n")
	p.printf("| what | msg/s | until | p50 | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|\n")
	p.quantiles(pacedFloor, "PUBACK", func(m *measurement) instrument.Quantiles { return m.Latency })
	at := pacedLog
	p.quantiles(at, "PUBACK", func(m *measurement) instrument.Quantiles { return m.Latency })
	p.quantiles(at, "PUBACK sent, from received", func(m *measurement) instrument.Quantiles { return m.Ack })
	for _, pace := range paces {
		at := point{subject(everything.name), targetShape, pace}
		p.quantiles(at, "PUBACK", func(m *measurement) instrument.Quantiles { return m.Latency })
		p.quantiles(at, "row", func(m *measurement) instrument.Quantiles { return m.Row })
		p.quantiles(at, "stream", func(m *measurement) instrument.Quantiles { return m.Stream })
	}
	p.printf("\n")
}

func (p *report) quantiles(at point, until string, of func(*measurement) instrument.Quantiles) {
	ms := func(f func(instrument.Quantiles) time.Duration) string {
		return bracket("%.2f", p.r.of(at, func(m *measurement) float64 { return f(of(m)).Seconds() * 1e3 })) + " ms"
	}
	most := ms(func(q instrument.Quantiles) time.Duration { return q.Max })
	if m := p.r[at]; len(m) > 0 && of(&m[0]).Max == 0 { // a histogram of Prometheus has none
		most = "–"
	}
	p.printf("| %s | %d | %s | %s | %s | %s | %s |\n", at.subject, at.rate, until,
		ms(func(q instrument.Quantiles) time.Duration { return q.P50 }), ms(func(q instrument.Quantiles) time.Duration { return q.P99 }),
		ms(func(q instrument.Quantiles) time.Duration { return q.P999 }), most)
}

func (p *report) commands() {
	if len(p.r[toolPoint(exportJSON)]) == 0 {
		return
	}
	p.printf("## Commands\n\n%d records of %d bytes; lines to publish are %d. Output goes to /dev/null. Each is a process from its start to its end, but for nats.go, which is measured once it is connected.\n\n",
		p.r[toolPoint(exportJSON)][0].Messages, targetShape.Payload, p.r[toolPoint(pubLines)][0].Messages)
	p.printf("| what | messages/s | CPU µs/msg | peak RssAnon |\n|---|---|---|---|\n")
	for _, s := range []subject{sqliteJSON, exportJSON, sqliteCSV, exportCSV, bareCore, replayCore, importJSON, mosquitto, pubLines} {
		at := toolPoint(s)
		p.printf("| %s | %s | %s | %.0f MiB |\n", s, bracket("%.0f", p.r.of(at, rate)),
			bracket("%.2f", p.r.of(at, func(m *measurement) float64 { return m.CPU * 1e6 })), p.r.of(at, mebibytes).Median)
	}
	p.printf("\nHow far from its recorded offset a message reaches a subscriber:\n\n| what | msg/s | until | p50 | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|\n")
	for _, s := range []subject{replayPace, barePace} {
		p.quantiles(pacePoint(s), "read", func(m *measurement) instrument.Quantiles { return m.Latency })
	}
	p.printf("\n")
}

func (p *report) routes() {
	if len(p.r[toolPoint(noRoutes)]) == 0 {
		return
	}
	p.printf("## Routes\n\nThe archive stage reads %d messages of %d bytes of JSON from memory (the jq map fewer); rerun is a process from its start to its end. The slow route takes a tenth of the messages and longer for them than there is time.\n\n",
		p.r[toolPoint(noRoutes)][0].Messages, targetShape.Payload)
	p.printf("| what | messages/s | CPU µs/msg | / without routes |\n|---|---|---|---|\n")
	for _, s := range []subject{noRoutes, threeColumns, hundredRoutes, jqMap, rerunColumns} {
		at := toolPoint(s)
		p.printf("| %s | %s | %s | %s |\n", s, bracket("%.0f", p.r.of(at, rate)),
			bracket("%.2f", p.r.of(at, func(m *measurement) float64 { return m.CPU * 1e6 })), bracket("%.2f", p.r.ratio(at, toolPoint(noRoutes), cpu)))
	}
	p.printf("\n| beside | acknowledged/s | in NATS/s | the archive is behind |\n|---|---|---|---|\n")
	for _, s := range []subject{withoutSlow, withSlow} {
		at := toolPoint(s)
		p.printf("| %s | %s | %s | %s |\n", s, bracket("%.0f", p.r.of(at, acked)), bracket("%.0f", p.r.of(at, rate)), bracket("%.1f s", p.r.of(at, drained)))
	}
	p.printf("\n")
}

func (p *report) backlog() {
	for i := range p.r[drainPoint] {
		m := &p.r[drainPoint][i]
		p.printf("## Backlog\n\n%d records of %d bytes into SQLite: %.0f rows/s, %.2f µs of CPU a row, peak RssAnon %.0f MiB. Rows/s in each tenth:%s.\n\n",
			m.Messages, targetShape.Payload, m.Rate, m.CPU*1e6, mebibytes(m), m.tenths())
	}
	for i := range p.r[toolPoint(exportAll)] {
		m := &p.r[toolPoint(exportAll)][i]
		p.printf("Exported as NDJSON through a pipe: %.0f rows/s, %.2f µs of CPU a row, peak RssAnon %.0f MiB. Rows/s in each tenth:%s.\n\n",
			m.Rate, m.CPU*1e6, mebibytes(m), m.tenths())
	}
}

func (m *measurement) tenths() (text string) {
	for _, v := range m.Tenths {
		text += fmt.Sprintf(" %.0f", v)
	}
	return text
}

func (p *report) method() { p.printf("%s", method) }

const method = `## How it is measured

The sender is a synthetic MQTT server that delivers QoS 1 messages on 100 topics as fast as the window allows, with
packets that stand ready, and checks every PUBACK for its order. It and whatever is measured share the machine's
cores. Window 20 speaks MQTT 3.1.1, the others MQTT 5. The null subscriber reads through a large buffer, acknowledges
with one write for all that one read has brought, and stores nothing. "Write and sync" does the same but appends what
it has read to a plain file, as it came, and syncs that before it acknowledges: the limit of this machine for whatever
acknowledges what is on disk. CPU is user and system time of the measured process alone. Every message carries its
number, and after each run every store is counted: the end of the log, each row of the archive against its number, the
stream's messages. A difference fails the benchmark. The way to JetStream is over plain TCP; over TLS and WebSocket
nats.go publishes for the forwarder, with 2 allocations a message more.
`
