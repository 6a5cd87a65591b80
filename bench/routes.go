package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/bench/instrument"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/store"
	"github.com/mqttetl/mqttetl/test/service"
)

// What routes are measured with: 128 bytes of JSON on 100 topics.
const (
	routedMessages = 300_000
	mappedMessages = 60_000 // jq costs several times as much
	routedLap      = 10_000 // messages that stand ready

	slowPace     = 10_000 // messages a second beside a slow route
	slowMessages = 20_000
)

const (
	noRoutes      subject = "archive stage without routes"
	threeColumns  subject = "archive stage, three columns"
	hundredRoutes subject = "archive stage, 100 routes of which one matches"
	jqMap         subject = "archive stage, a jq map"
	rerunColumns  subject = "transform rerun, three columns"
	withoutSlow   subject = "all, paced, without routes"
	withSlow      subject = "all, paced, with a slow jq route"
)

// slowRoute takes a tenth of the messages and more time than there is.
const slowRoute = `routes:
  - {name: slow, topic: bench/hall0/+/temperature, decode: text, map: '{n: reduce range(10000) as $i (0; . + $i)}', table: slow, columns: {n: INTEGER}}
`

// routes measures what routes cost, one round.
func (b *bench) routes(r results) error {
	for _, c := range []struct {
		name   subject
		routes []transform.Route
		n      int
	}{
		{noRoutes, nil, routedMessages},
		{threeColumns, []transform.Route{sensorRoute("sensors", "")}, routedMessages},
		{hundredRoutes, hundred(), routedMessages},
		{jqMap, []transform.Route{mappedRoute()}, mappedMessages},
	} {
		if err := b.archiveStage(r, c.name, c.routes, b.laps(c.n)); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if err := b.rerun(r); err != nil {
		return fmt.Errorf("%s: %w", rerunColumns, err)
	}
	if err := b.besideSlow(r, withoutSlow, ""); err != nil {
		return fmt.Errorf("%s: %w", withoutSlow, err)
	}
	if err := b.besideSlow(r, withSlow, slowRoute); err != nil {
		return fmt.Errorf("%s: %w", withSlow, err)
	}
	return nil
}

// laps is about n messages, a whole number of transactions.
func (b *bench) laps(n int) int { return max(1, b.scaled(n)/routedLap) * routedLap }

func sensorRoute(name, below string) transform.Route {
	return transform.Route{Name: name, Topic: "bench/{hall}/{machine}" + below, Decode: "json", Table: name, Columns: []transform.Column{
		{Name: "temperature", Type: store.Real, Path: ".temperature"},
		{Name: "humidity", Type: store.Real, Path: ".humidity"},
		{Name: "battery", Type: store.Integer, Path: ".battery"},
	}}
}

func hundred() []transform.Route {
	list := []transform.Route{sensorRoute("sensors", "")}
	for i := range 99 {
		list = append(list, sensorRoute(fmt.Sprintf("other%d", i), fmt.Sprintf("/part%d", i)))
	}
	return list
}

func mappedRoute() transform.Route {
	r := sensorRoute("sensors", "")
	r.Map = "{temperature, humidity, battery}"
	return r
}

// sensorLog is a log that holds n messages in memory.
type sensorLog struct {
	records []mqttetl.Record
	at, n   int
	stored  chan struct{}
}

func newSensorLog(n int) *sensorLog {
	l := &sensorLog{n: n, stored: make(chan struct{})}
	for i := range routedLap {
		p := fmt.Sprintf(`{"temperature":%d.%02d,"humidity":%d.5,"battery":%d,"linkquality":%d,"voltage":3%03d,"update":{"state":"idle"},"id":"%06d"}`,
			15+i%20, i%100, 30+i%60, i%100, 100+i%100, i%1000, i)
		p += fmt.Sprintf("%*s", targetShape.Payload-len(p), "")
		l.records = append(l.records, mqttetl.Record{Source: "bench", Message: mqttetl.Message{
			Topic: fmt.Appendf(nil, "bench/hall%d/machine%d", i%10, i/10%10), Payload: []byte(p), Flags: 1}})
	}
	return l
}

func (l *sensorLog) Seek(after mqttetl.Seq) (mqttetl.Seq, error) { return after + 1, nil }

func (l *sensorLog) Next(ctx context.Context, most int) ([]mqttetl.Record, error) {
	if l.at == l.n {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	from := l.at % routedLap
	recs := l.records[from:min(from+most, routedLap)]
	for i := range recs {
		l.at++
		recs[i].Seq, recs[i].Time = mqttetl.Seq(l.at), 1_760_000_000_000_000_000+int64(l.at)*int64(time.Millisecond)
	}
	return recs, nil
}

func (l *sensorLog) Commit(upTo mqttetl.Seq) {
	if int(upTo) == l.n {
		close(l.stored)
	}
}

func (l *sensorLog) Lag() (uint64, time.Duration, error)           { return 0, 0, nil }
func (l *sensorLog) HasDeadLetters() bool                          { return false }
func (l *sensorLog) DeadLetters(int) ([]mqttetl.DeadLetter, error) { return nil, nil }
func (l *sensorLog) DropDeadLetters([]mqttetl.DeadLetter)          {}

// archiveStage archives n messages from memory; its processor time is that of
// this process and of the workers that run its jq programs.
func (b *bench) archiveStage(r results, name subject, routes []transform.Route, n int) error {
	dir, done, err := b.newDir()
	if err != nil {
		return err
	}
	defer done()
	spent, elapsed, err := b.fillTables(filepath.Join(dir, "routes.db"), routes, n)
	if err != nil {
		return err
	}
	b.note(r, toolPoint(name), measurement{Messages: n, Rate: float64(n) / elapsed.Seconds(), CPU: spent.Seconds() / float64(n)})
	return nil
}

func (b *bench) fillTables(path string, routes []transform.Route, n int) (spent, elapsed time.Duration, err error) {
	set, err := transform.Compile(routes)
	if err != nil {
		return 0, 0, err
	}
	log := newSensorLog(n)
	if err := b.syncDisk(); err != nil {
		return 0, 0, err
	}
	runtime.GC()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	begun := time.Now()
	workers := instrument.EndedChildren()
	before, err := instrument.ProcessTime(os.Getpid())
	if err != nil {
		return 0, 0, err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- batch.New(batch.Config{Name: path, Routes: set,
			Open: func(o store.Options) (batch.Archive, error) { return archive.OpenWith(path, "0123456789abcdef", o) }}, log).Run(ctx)
	}()
	select {
	case <-log.stored:
	case err := <-ended:
		return 0, 0, errors.Join(err, errors.New("the batcher has ended"))
	}
	elapsed = time.Since(begun)
	after, err := instrument.ProcessTime(os.Getpid())
	cancel()
	if err = errors.Join(err, <-ended); err != nil {
		return 0, 0, err
	}
	return after - before + instrument.EndedChildren() - workers, elapsed, checkTables(path, routes, n)
}

// checkTables holds the first route, which matches every message, to have made
// a row of each of n.
func checkTables(path string, routes []transform.Route, n int) error {
	if len(routes) == 0 {
		return nil
	}
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return err
	}
	defer db.Close()
	var rows, letters int
	if err := db.QueryRow(`SELECT (SELECT count(*) FROM `+routes[0].Table+`), (SELECT count(*) FROM dead_letters)`).Scan(&rows, &letters); err != nil {
		return fmt.Errorf("count table %s: %w", routes[0].Table, err)
	}
	if rows != n || letters != 0 {
		return fmt.Errorf("table %s has %d rows of %d messages; %d dead letters", routes[0].Table, rows, n, letters)
	}
	return nil
}

// rerun builds the table of three columns from an archive without it.
func (b *bench) rerun(r results) error {
	dir, done, err := b.newDir()
	if err != nil {
		return err
	}
	defer done()
	n := b.laps(2 * routedMessages)
	db, conf := filepath.Join(dir, "rerun.db"), filepath.Join(dir, "rerun.yaml")
	if _, _, err := b.fillTables(db, nil, n); err != nil {
		return err
	}
	text := fmt.Sprintf(`sources: [{name: none, url: "mqtt://127.0.0.1:1", subscribe: ["#"]}]
log: {dir: %s}
archive: {path: %s}
routes:
  - {name: sensors, topic: "bench/{hall}/{machine}", decode: json, table: sensors, columns: {temperature: REAL, humidity: REAL, battery: INTEGER}}
`, filepath.Join(dir, "log"), db)
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o600), b.syncDisk()); err != nil {
		return err
	}
	t := &toolbox{bench: b, r: r, dir: dir, db: db, n: n}
	return t.mqttetl(rerunColumns, n, nil, fmt.Sprintf("table sensors: %d rows of %d messages", n, n), "transform", "rerun", "-c", conf, "--route", "sensors")
}

// besideSlow measures ingest and NATS at a pace, with these routes.
func (b *bench) besideSlow(r results, name subject, routes string) error {
	t := &trial{stage: everything, shape: targetShape, n: b.scaled(slowMessages), rate: slowPace, routes: routes}
	var forwarded time.Time
	t.during = func(t *trial, stop <-chan struct{}) (err error) {
		forwarded, err = t.program.await("forwarded", func(s *service.Status) bool { return s.NATS.Cursor >= uint64(t.n) })
		return err
	}
	t.after = func(m *measurement, start int64) { m.Rate = perSecond(t.n, start, forwarded.UnixNano()) }
	m, err := b.try(t)
	if err != nil {
		return err
	}
	r.add(toolPoint(name), m)
	b.logf("%-33s %9.0f acknowledged/s  %9.0f in NATS/s  archive %.1f s behind", name, m.Acked, m.Rate, m.Drain)
	return nil
}

func rerunLimit(r results, _ machine) string {
	used := r.of(toolPoint(rerunColumns), cpu).Median
	return fmt.Sprintf("it takes %.2f µs of CPU a message, which is %.0f a second of one core; the rest is the disk and what else runs on the machine.", used*1e6, 1/used)
}
