package main

import "fmt"

// What is in the way where a target is missed, in this run's own numbers.

func micros(r results, p point) float64 { return r.of(p, cpu).Median * 1e6 }

func bytesWritten(r results, p point) float64 {
	return r.of(p, func(m *measurement) float64 { return m.Written }).Median
}

// cpuLimit: what is acknowledged has been written and synced.
func cpuLimit(r results, _ machine) string {
	return fmt.Sprintf("the null subscriber costs %.3f µs a message here; the target was set where it cost 0.21. Writing the packets to a file as they came, "+
		"and syncing it, costs %.3f µs, %.2f of the null subscriber; the log costs %.3f µs, %.2f of that.",
		micros(r, nullPoint), micros(r, floorPoint), r.ratio(floorPoint, nullPoint, cpu).Median, micros(r, logPoint), r.ratio(logPoint, floorPoint, cpu).Median)
}

// diskLimit: and the disk is only so fast.
func diskLimit(r results, m machine) string {
	written, null := bytesWritten(r, logPoint), r.of(nullPoint, rate).Median
	return fmt.Sprintf("the disk writes %.0f MB/s, %.0f MB/s after a rest; at the %.0f bytes a message that the log writes, that is %.2f of the null subscriber, or %.2f. "+
		"Writing the packets to a file as they came has reached %.2f.",
		m.DiskRate/1e6, m.Burst/1e6, written, m.DiskRate/written/null, m.Burst/written/null, r.ratio(floorPoint, nullPoint, rate).Median)
}

// rowCostLimit: a row in SQLite costs more than ten messages that nobody stores.
func rowCostLimit(r results, _ machine) string {
	return fmt.Sprintf("of %.2f µs a message the row takes %.2f, nearly all of it inside SQLite; ten times the null subscriber is %.2f µs, of which writing the packets as they came takes %.2f.",
		micros(r, archivePoint), micros(r, archivePoint)-micros(r, logPoint), 10*micros(r, nullPoint), micros(r, floorPoint))
}

func archiveLimit(r results, m machine) string {
	null, written := r.of(nullPoint, rate).Median, bytesWritten(r, archivePoint)
	return fmt.Sprintf("at %.0f msg/s of the null subscriber this asks for a row every %.2f µs, ingest and log included, on the cores that the sender shares. "+
		"At the %.0f bytes a message that log, write-ahead log and archive write, the disk allows %.0f rows/s.",
		null, 5e6/null, written, m.DiskRate/written)
}

// coresLimit: broker, publisher and subscriber share the cores, so what a
// subscriber costs more is missing elsewhere.
func coresLimit(s subject) func(results, machine) string {
	return func(r results, m machine) string {
		null, it := micros(r, brokerPoint(nullAtBroker)), micros(r, brokerPoint(s))
		message := float64(m.Cores) * 1e6 / r.of(brokerPoint(nullAtBroker), acked).Median
		return fmt.Sprintf("with the null subscriber a message takes %.1f µs of all %d cores, publisher and broker included. The subscriber's part is %.1f µs there and %.1f µs here, "+
			"servers behind it not counted: on cores without idle time that makes %.2f.", message, m.Cores, null, it, message/(message+it-null))
	}
}

// roundLimit: a round of a small window is a commit and the way there and back.
func roundLimit(r results, _ machine) string {
	at := point{subject(logOnly.name), smallWindow, 0}
	return fmt.Sprintf("20 messages take %.2f ms, a commit %.2f ms; without storing them the way there and back takes %.3f ms on these cores.",
		20e3/r.of(at, rate).Median, r.of(at, func(m *measurement) float64 { return m.CommitP50 }).Median*1e3,
		20e3/r.of(point{nullSubscriber, smallWindow, 0}, rate).Median)
}

// latencyLimit: a message waits for the commit that runs, and for its own.
func latencyLimit(r results, _ machine) string {
	return fmt.Sprintf("a message that comes during a commit waits for its end and for the next: two of them. The p99 of a commit is %.2f ms, from received to sent %.2f ms; "+
		"where the cores are busy, each wake-up on the way waits for one too.",
		r.of(pacedLog, func(m *measurement) float64 { return m.CommitP99 }).Median*1e3, r.of(pacedLog, func(m *measurement) float64 { return m.Ack.P99.Seconds() }).Median*1e3)
}

// senderLimit: the sender shares the cores.
func senderLimit(r results, _ machine) string {
	return fmt.Sprintf("of the %.2f ms (p99) mqttetl takes %.2f ms from its read to its write; the rest is the sender's own lateness and the wake-ups on the cores that both share. "+
		"Of a subscriber that only writes to a file, syncs and acknowledges the same sender has a p99 of %.2f ms.",
		offP99Of(r, pacedLog), r.of(pacedLog, func(m *measurement) float64 { return m.Ack.P99.Seconds() }).Median*1e3, offP99Of(r, pacedFloor))
}

// offP99Of is the median of a point's p99, in milliseconds.
func offP99Of(r results, at point) float64 { return r.of(at, offP99).Median }

// paceLimit: nothing that sleeps is woken on time by a machine that is not.
func paceLimit(r results, _ machine) string {
	bare := r.of(pacePoint(barePace), offP99)
	return fmt.Sprintf("what a program that only sleeps and writes sends through the same server reaches the same listener with a p99 of %.2f ms (%.2f–%.2f) off, in the same rounds.",
		bare.Median, bare.Low, bare.High)
}

// drainLimit: a backlog is read from the disk that is written to meanwhile, for longer
// than the disk's allowance lasts.
func drainLimit(r results, m machine) string {
	tenths := spread{}
	for i := range r[drainPoint] {
		tenths = spreadOf(r[drainPoint][i].Tenths)
	}
	return fmt.Sprintf("the tenths of the backlog went at %.0f rows/s, %.0f to %.0f; the archive stage, in runs of %v, at %.0f. A drain lasts long enough to use up the disk's allowance: "+
		"it writes %.0f MB/s after a rest and %.0f MB/s later.", tenths.Median, tenths.Low, tenths.High, targetTime, r.of(archivePoint, rate).Median, m.Burst/1e6, m.DiskRate/1e6)
}

// rowLimit counts what the file format needs for a row of the schema (SQLite,
// "Record Format" and "B-tree Pages").
func rowLimit(results, machine) string {
	return "the schema needs 25 bytes in SQLite's format: 2 for the cell's pointer, 2 + 3 for its size and rowid (4 from row 2,097,152 on), 9 for the record's header, 8 for the time, 1 for the topic; the rest is what a page has left over when no further row fits."
}
