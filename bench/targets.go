package main

import (
	"fmt"
	"math"
)

// A target is one line of the table that the program is held to.
type target struct {
	what   string
	atMost bool
	bound  float64
	format string // of a value, for fmt
	value  func(r results) spread
	// limit says, where a target is missed and it can be told from the run's own
	// numbers, what is in the way.
	limit func(r results, m machine) string
}

var (
	nullPoint    = point{nullSubscriber, targetShape, 0}
	floorPoint   = point{writeAndSync, targetShape, 0}
	logPoint     = point{subject(logOnly.name), targetShape, 0}
	archivePoint = point{subject(withArchive.name), targetShape, 0}
	streamPoint  = point{subject(withStream.name), targetShape, 0}
	allPoint     = point{subject(everything.name), targetShape, 0}
	barePoint    = point{barePublisher, targetShape, 0}
	pacedLog     = point{subject(logOnly.name), targetShape, 10000}
	pacedFloor   = point{writeAndSync, targetShape, 10000}
	pacedAll     = point{subject(everything.name), targetShape, 10000}
	drainPoint   = point{draining, targetShape, 0}
	startPoint   = point{starting, targetShape, 0}
)

func brokerPoint(s subject) point { return point{s, brokerShape, 0} }

var targets = []target{
	{what: "log only: CPU a message / null subscriber", atMost: true, bound: 3, format: "%.2f",
		value: func(r results) spread { return r.ratio(logPoint, nullPoint, cpu) }, limit: cpuLimit},
	{what: "log only: rate / null subscriber", bound: 0.5, format: "%.2f",
		value: func(r results) spread { return r.ratio(logPoint, nullPoint, rate) }, limit: diskLimit},
	{what: "log + archive: CPU / null", atMost: true, bound: 10, format: "%.1f",
		value: func(r results) spread { return r.ratio(archivePoint, nullPoint, cpu) }, limit: rowCostLimit},
	{what: "log + archive: sustained rate / null", bound: 0.2, format: "%.3f",
		value: func(r results) spread { return r.ratio(archivePoint, nullPoint, rate) }, limit: archiveLimit},
	{what: "JetStream: rate / a bare asynchronous publisher with Nats-Msg-Id on the same server", bound: 1.2, format: "%.2f",
		value: func(r results) spread { return r.ratio(streamPoint, barePoint, rate) }},
	{what: "allocations a message, from the socket to log, archive and JetStream", atMost: true, bound: 0.1, format: "%.2f",
		value: func(r results) spread { return r.of(allPoint, func(m *measurement) float64 { return m.Allocs }) }},
	{what: "through Mosquitto into log and archive: acknowledged rate / null subscriber behind the same broker", bound: 0.98, format: "%.3f",
		value: func(r results) spread { return r.ratio(brokerPoint(archiveAtBroker), brokerPoint(nullAtBroker), acked) },
		limit: coresLimit(archiveAtBroker)},
	{what: "the same with JetStream on the same two cores", bound: 0.85, format: "%.3f",
		value: func(r results) spread { return r.ratio(brokerPoint(allAtBroker), brokerPoint(nullAtBroker), acked) },
		limit: coresLimit(allAtBroker)},
	{what: "… and the backlog drains afterwards, seconds", atMost: true, bound: 60, format: "%.1f s",
		value: func(r results) spread { return r.of(brokerPoint(allAtBroker), drained) }},
	{what: "window 20 (MQTT 3.1.1): rate / (20 per commit p50)", bound: 0.6, format: "%.2f",
		value: func(r results) spread {
			return r.of(point{subject(logOnly.name), smallWindow, 0}, func(m *measurement) float64 { return m.Rate / (20 / m.CommitP50) })
		}, limit: roundLimit},
	{what: "PUBLISH received → PUBACK sent, p99 at 10,000 msg/s / commit p99", atMost: true, bound: 2.5, format: "%.2f",
		value: func(r results) spread {
			return r.of(pacedLog, func(m *measurement) float64 { return m.Ack.P99.Seconds() / m.CommitP99 })
		}, limit: latencyLimit},
	{what: "… from when the sender was to send until it has read the PUBACK", atMost: true, bound: 2.5, format: "%.2f",
		value: func(r results) spread {
			return r.of(pacedLog, func(m *measurement) float64 { return m.Latency.P99.Seconds() / m.CommitP99 })
		}, limit: senderLimit},
	{what: "draining a backlog into SQLite: rate / archive stage's rate", bound: 0.9, format: "%.2f",
		value: func(r results) spread {
			return r.pairs(drainPoint, archivePoint, func(m, _ *measurement) float64 { return m.Rate / r.of(archivePoint, rate).Median })
		}, limit: drainLimit},
	{what: "… flat over time: slowest tenth / median tenth", bound: 0.8, format: "%.2f",
		value: func(r results) spread { return r.of(drainPoint, flatness) }, limit: drainLimit},
	{what: "archive size over payload at 100 topics, bytes a row", atMost: true, bound: 24, format: "%.1f",
		value: func(r results) spread { return r.of(archivePoint, func(m *measurement) float64 { return m.RowBytes }) }, limit: rowLimit},
	{what: "peak RssAnon at line rate, all stages", atMost: true, bound: 192, format: "%.0f MiB",
		value: func(r results) spread { return r.of(allPoint, mebibytes) }},
	{what: "peak RssAnon at 10,000 msg/s, all stages", atMost: true, bound: 64, format: "%.0f MiB",
		value: func(r results) spread { return r.of(pacedAll, mebibytes) }},
	{what: "start with a 10 GiB log to the first PUBACK", atMost: true, bound: 1, format: "%.2f s",
		value: func(r results) spread { return r.of(startPoint, func(m *measurement) float64 { return m.FirstAck }) }},
	{what: "export to NDJSON: rate / sqlite3 -json on the same rows", bound: 5, format: "%.1f",
		value: func(r results) spread { return r.ratio(toolPoint(exportJSON), toolPoint(sqliteJSON), rate) }},
	{what: "export of 10 million rows, flat over time: slowest tenth / median tenth", bound: 0.8, format: "%.2f",
		value: func(r results) spread { return r.of(toolPoint(exportAll), flatness) }},
	{what: "… peak RssAnon", atMost: true, bound: 64, format: "%.0f MiB",
		value: func(r results) spread { return r.of(toolPoint(exportAll), mebibytes) }},
	{what: "replay to core NATS: rate / nats.go publishing the same payloads", bound: 0.6, format: "%.2f",
		value: func(r results) spread { return r.ratio(toolPoint(replayCore), toolPoint(bareCore), rate) }},
	{what: "replay as recorded, 10,000 msg/s: p99 of the distance from the recorded offset", atMost: true, bound: 1, format: "%.2f ms",
		value: func(r results) spread { return r.of(pacePoint(replayPace), offP99) }, limit: paceLimit},
	{what: "… beyond that of a program that only sleeps and writes", atMost: true, bound: 1, format: "%.2f ms",
		value: func(r results) spread {
			return r.pairs(pacePoint(replayPace), pacePoint(barePace), func(m, bare *measurement) float64 { return offP99(m) - offP99(bare) })
		}, limit: paceLimit},
	{what: "import into the log, lines a second", bound: 300_000, format: "%.0f",
		value: func(r results) spread { return r.of(toolPoint(importJSON), rate) }},
	{what: "pub -l at QoS 1: rate / mosquitto_pub -l", bound: 1, format: "%.2f",
		value: func(r results) spread { return r.ratio(toolPoint(pubLines), toolPoint(mosquitto), rate) }},
	{what: "routes: CPU of the archive stage with three columns of a JSON / without routes", atMost: true, bound: 2.5, format: "%.2f",
		value: func(r results) spread { return r.ratio(toolPoint(threeColumns), toolPoint(noRoutes), cpu) }},
	{what: "… 100 routes of which one matches / one route", atMost: true, bound: 1.1, format: "%.2f",
		value: func(r results) spread { return r.ratio(toolPoint(hundredRoutes), toolPoint(threeColumns), cpu) }},
	{what: "transform rerun with three columns, messages a second", bound: 200_000, format: "%.0f",
		value: func(r results) spread { return r.of(toolPoint(rerunColumns), rate) }, limit: rerunLimit},
	{what: "ingest beside a slow jq route / without it, 10,000 msg/s", bound: 0.98, format: "%.3f",
		value: func(r results) spread { return r.ratio(toolPoint(withSlow), toolPoint(withoutSlow), acked) }},
	{what: "… in NATS", bound: 0.98, format: "%.3f",
		value: func(r results) spread { return r.ratio(toolPoint(withSlow), toolPoint(withoutSlow), rate) }},
}

func drained(m *measurement) float64   { return m.Drain }
func mebibytes(m *measurement) float64 { return m.Peak / (1 << 20) }

// flatness is the slowest tenth of a drain as a part of the median tenth.
func flatness(m *measurement) float64 {
	s := spreadOf(m.Tenths)
	return s.Low / s.Median
}

// verdict is "ok", or by how much the median misses the target.
func (t *target) verdict(v float64) string {
	switch {
	case math.IsNaN(v):
		return "not measured"
	case t.atMost && v <= t.bound, !t.atMost && v >= t.bound:
		return "ok"
	case t.atMost:
		return fmt.Sprintf("**missed** by %.0f %%", (v/t.bound-1)*100)
	}
	return fmt.Sprintf("**missed** by %.0f %%", (1-v/t.bound)*100)
}
