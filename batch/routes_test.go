package batch

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/store"
)

// startRoutes is start with routes and everything else that the archive can keep.
func startRoutes(tb testing.TB, path string, log Log, routes ...transform.Route) *running {
	tb.Helper()
	set, err := transform.Compile(routes)
	must(tb, err)
	reg, lines := prometheus.NewRegistry(), newLogLines()
	b := New(Config{Name: "a.db", Open: fileAt(path), Count: 10_000, Period: 50 * time.Millisecond, Routes: set, Readings: true, Latest: true,
		Logger: slog.New(slog.NewTextHandler(lines, nil)), Metrics: NewMetrics(reg)}, log)
	if len(routes) > 0 && routes[0].Name == "endless" {
		b.routeLimit = 100 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{b, tb, cancel, make(chan error, 1), lines, reg}
	go func() { r.ended <- b.Run(ctx) }()
	tb.Cleanup(cancel)
	return r
}

// send adds records to the log: topic, payload, topic, payload, …
func (l *memoryLog) send(texts ...string) {
	l.update(func() {
		for i := 0; i < len(texts); i += 2 {
			r := recordOf(l.last() + 1)
			r.Topic, r.Payload = []byte(texts[i]), []byte(texts[i+1])
			l.records = append(l.records, r)
		}
	})
}

func TestRoutes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	must(t, mustOpenClose(path)) // made before there were routes
	route := transform.Route{Name: "temps", Topic: "home/{room}", Table: "temps",
		Columns: []transform.Column{{Name: "t", Type: store.Real, Path: ".t"}}}
	nulls := route
	nulls.Name, nulls.Table, nulls.OnError, nulls.Map = "nulls", "n", transform.OnErrorNull, "{t: .t}"
	b := startRoutes(t, path, log, route, nulls)
	log.send("home/hall", `{"t":1.5}`, "home/attic", `{"t":2}`, "else", `{"t":3}`, "home/hall", `{"t":`, "home/hall", `{"u":true}`)
	log.archived(t)
	b.stop()
	for query, want := range map[string]string{
		"select seq, time, room, t from temps":                                                "1|1000|hall|1.5\n2|2000|attic|2.0",
		"select seq, room, t from n":                                                          "1|hall|1.5\n2|attic|2.0\n4|hall|\n5|hall|",
		"select seq, stage, reason from dead_letters":                                         `4|transform:temps|payload is not JSON: it ends too early, at byte 5` + "\n5|transform:temps|column t: there is no .t",
		"select topic, seq, payload from latest order by topic":                               `else|3|{"t":3}` + "\n" + `home/attic|2|{"t":2}` + "\n" + `home/hall|5|{"u":true}`,
		"select topic, path, value from readings join series on id = series_id order by 1, 2": "else|.t|3.0\nhome/attic|.t|2.0\nhome/hall|.t|1.5\nhome/hall|.u|1.0",
	} {
		if got := shell(t, path, query); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", query, got, want)
		}
	}
	for name, want := range map[string]float64{`mqttetl_route_rows_total{temps}`: 2, `mqttetl_route_errors_total{temps}`: 2,
		`mqttetl_route_rows_total{nulls}`: 4, `mqttetl_route_errors_total{nulls}`: 1, `mqttetl_dead_letters_total{transform}`: 2} {
		if got := b.labelled(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	b.lines.await(t, "level=WARN", "a route cannot use some messages", "route=temps", "seq=4")
	b.lines.await(t, "level=WARN", "a route cannot use some messages", "route=nulls", "seq=4", "on_error=null")
	if n := strings.Count(b.lines.String(), "a route cannot use"); n != 2 { // each route once
		t.Errorf("said %d times", n)
	}
}

func mustOpenClose(path string) error {
	a, err := archive.Open(path, logID)
	if err != nil {
		return err
	}
	return a.Close()
}

// labelled is the value of name{value of its label}.
func (r *running) labelled(name string) float64 {
	r.tb.Helper()
	name, label, _ := strings.Cut(strings.TrimSuffix(name, "}"), "{")
	families, err := r.reg.Gather()
	must(r.tb, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	r.tb.Fatalf("no metric %s{%s}", name, label)
	return 0
}

// An endless program keeps neither the cursor nor the other route from moving,
// and everything it fails for is a dead letter.
// A bad row of a message is one dead letter in the transaction of the good ones.
func TestOneBadRow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	b := startRoutes(t, path, log, transform.Route{Name: "r", Topic: "t", Decode: "csv", Table: "x",
		Columns: []transform.Column{{Name: "n", Type: store.Integer, Path: ".n"}}})
	log.send("t", "n\n1\nx\n3\ny\n", "t", "", "t", "n\n4\n") // the second clears a retained message
	log.archived(t)
	b.stop()
	if got := shell(t, path, "select seq, n from x"); got != "1|1\n1|3\n3|4" {
		t.Errorf("rows\n%s", got)
	}
	if got := shell(t, path, "select seq, substr(reason, 1, 16) from dead_letters"); got != "1|rows [1,3] of 4:" {
		t.Errorf("dead letters\n%s", got)
	}
	for name, want := range map[string]float64{`mqttetl_route_rows_total{r}`: 3, `mqttetl_route_errors_total{r}`: 1, `mqttetl_dead_letters_total{transform}`: 1} {
		if got := b.labelled(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestEndlessRoute(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	endless := transform.Route{Name: "endless", Topic: "#", Map: "last(repeat(1))", Table: "e", Columns: []transform.Column{{Name: "x", Type: store.Real}}}
	good := transform.Route{Name: "good", Topic: "t/{n}", Decode: "text", Table: "g", Columns: []transform.Column{{Name: "p", Type: store.Text, Path: "."}}}
	b := startRoutes(t, path, log, endless, good)
	log.add(20_000)
	begun := time.Now()
	log.archived(t)
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("20,000 records took %v", took)
	}
	b.stop()
	exact(t, path, 1, 20_000)
	if got := shell(t, path, "select (select count(*) from e), (select count(*) from g), (select count(*) from dead_letters where stage = 'transform:endless')"); got != "0|20000|20000" {
		t.Errorf("rows and dead letters %s", got)
	}
}

// While a transaction's routes are slow, what they have done is committed when
// the period has passed.
func TestSlowRouteCommitsByPeriod(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	log.keep = true
	slow := transform.Route{Name: "slow", Topic: "#", Decode: "text", Map: "reduce range(2000) as $i (0; . + 1)", Table: "s", Columns: []transform.Column{{Name: "x", Type: store.Integer, Path: "."}}}
	b := startRoutes(t, path, log, slow)
	log.add(300)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	must(t, log.await(ctx, func() bool { return log.upTo > 0 }))
	if c := b.Stats().Cursor; c >= 300 {
		t.Errorf("the first position was %d", c)
	}
	log.archived(t)
	b.stop()
	exact(t, path, 1, 300)
	if got := shell(t, path, "select count(*), count(distinct seq), sum(x) from s"); got != "300|300|600000" {
		t.Errorf("rows %s", got)
	}
}

// A table that does not fit its route ends the batcher, with what to do.
func TestTableThatDoesNotFit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	route := transform.Route{Name: "r", Topic: "a", Table: "x", Columns: []transform.Column{{Name: "v", Type: store.Real}}}
	startRoutes(t, path, newMemoryLog(), route).awaitOpen().stop()
	route.Columns[0].Type = store.Text
	err := startRoutes(t, path, newMemoryLog(), route).result()
	if err == nil || !strings.Contains(err.Error(), "column v of table x is REAL") || !strings.Contains(mqttetl.Hint(err), "rerun") {
		t.Errorf("Run: %v, %q", err, mqttetl.Hint(err))
	}
}

// A table that another program changes while the service runs is an outage: it
// holds up neither ingest nor NATS, and ends when the table fits again.
func TestTableChangedWhileRunning(t *testing.T) {
	route := transform.Route{Name: "r", Topic: "a", Table: "x", Columns: []transform.Column{{Name: "v", Type: store.Real, Path: "."}}}
	for name, sql := range map[string]struct{ change, mend string }{
		"types":  {"alter table x rename to y; create table x(seq integer, time integer, v text)", "drop table x; alter table y rename to x"},
		"unique": {"create unique index u on x(v)", "drop index u"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			log := newMemoryLog()
			b := startRoutes(t, path, log, route)
			log.send("a", "1")
			log.archived(t)
			shell(t, path, sql.change)
			log.send("a", "1")
			b.lines.await(t, "level=ERROR", "table x")
			shell(t, path, sql.mend)
			log.archived(t)
			b.stop()
			if got := shell(t, path, "select seq, v from x"); got != "1|1.0\n2|1.0" {
				t.Errorf("rows %s", got)
			}
		})
	}
}

func (r *running) awaitOpen() *running {
	r.tb.Helper()
	r.lines.await(r.tb, "archive is new")
	return r
}

// sparkplug is a payload with one metric, of DOUBLE.
func sparkplug(seq int, name string, alias uint64, value float64) string {
	var m []byte
	if name != "" {
		m = protowire.AppendString(protowire.AppendTag(m, 1, protowire.BytesType), name)
		m = protowire.AppendVarint(protowire.AppendTag(m, 4, protowire.VarintType), 10)
	}
	m = protowire.AppendVarint(protowire.AppendTag(m, 2, protowire.VarintType), alias)
	m = protowire.AppendFixed64(protowire.AppendTag(m, 13, protowire.Fixed64Type), math.Float64bits(value))
	p := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1_767_642_776_000)
	p = protowire.AppendBytes(protowire.AppendTag(p, 2, protowire.BytesType), m)
	return string(protowire.AppendVarint(protowire.AppendTag(p, 3, protowire.VarintType), uint64(seq)))
}

// What a birth has declared is known behind a restart, and a gap is counted.
func TestSparkplugBirthsOutliveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	route := transform.Route{Name: "spark", Topic: "spBv1.0/#", Decode: "sparkplug_b", Table: "metrics", Time: transform.Time{Path: ".timestamp"},
		Columns: []transform.Column{{Name: "node", Type: store.Text}, {Name: "metric", Type: store.Text}, {Name: "value", Type: store.Any}}}
	b := startRoutes(t, path, log, route)
	log.send("spBv1.0/g/NDATA/n", sparkplug(0, "", 7, 1), "spBv1.0/g/NBIRTH/n", sparkplug(0, "speed", 7, 2), "spBv1.0/g/NDATA/n", sparkplug(1, "", 7, 3))
	log.archived(t)
	b.stop()
	b = startRoutes(t, path, log, route)
	log.send("spBv1.0/g/NDATA/n", sparkplug(2, "", 7, 4), "spBv1.0/g/NDATA/n", sparkplug(5, "", 7, 5))
	log.archived(t)
	b.stop()
	want := "2|1767642776000000000|n|speed|2.0\n3|1767642776000000000|n|speed|3.0\n4|1767642776000000000|n|speed|4.0\n5|1767642776000000000|n|speed|5.0"
	if got := shell(t, path, "select seq, time, node, metric, value from metrics"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := shell(t, path, "select seq, stage from dead_letters"); got != "1|transform:spark" {
		t.Errorf("dead letters %s", got)
	}
	if got := b.labelled("mqttetl_sparkplug_seq_gaps_total{spark}"); got != 1 {
		t.Errorf("%v gaps", got)
	}
}

// Faults of the archive repeat no row and lose none.
func TestRoutesThroughOutages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	route := transform.Route{Name: "r", Topic: "t/{n}", Decode: "text", Table: "x", Columns: []transform.Column{{Name: "p", Type: store.Text, Path: "."}}}
	b := startRoutes(t, path, log, route)
	for range 3 {
		log.add(2000)
		awaitOpen(t, log, path)
		release := lock(t, path)
		log.add(2000)
		b.lines.await(t, "archive unavailable")
		release()
		log.archived(t)
		if got, want := shell(t, path, "select count(*), count(distinct seq), sum(p = 'payload '||seq) from x"), log.last(); got != fmt.Sprintf("%d|%d|%d", want, want, want) {
			t.Fatalf("rows %s, want %d", got, want)
		}
	}
	b.stop()
	if got := b.labelled("mqttetl_route_rows_total{r}"); got != float64(log.last()) {
		t.Errorf("counted %v", got)
	}
}

// What is wrong in messages and left out is said once a route, and counted.
func TestMendedIsSaidOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	route := transform.Route{Name: "temps", Topic: "home/{room}", Table: "temps", Time: transform.Time{Path: ".at?"},
		Columns: []transform.Column{{Name: "t", Type: store.Real, Path: ".t"}}}
	b := startRoutes(t, path, log, route)
	for range 3 {
		log.send("home/hall", `{"t":nan,"h":1}`, "home/hall", `{"t":1,"at":12.5,"n":"19.6"}`, "home/hall", `{"t":2}`)
		log.archived(t)
	}
	b.stop()
	if got, want := shell(t, path, "select seq, time, t from temps where seq < 4; select count(*) from dead_letters"), "1|1000|\n2|2000|1.0\n3|3000|2.0\n0"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for name, want := range map[string]float64{`mqttetl_route_mended_total{temps}`: 3, `mqttetl_route_mended_total{readings}`: 3, `mqttetl_route_unset_times_total{temps}`: 3} {
		if got := b.labelled(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	b.lines.await(t, "level=WARN", "a route uses messages in which something is wrong", "route=temps", "seq=1", "nan at byte 5 reads as null")
	b.lines.await(t, "level=WARN", "clock is not set", "route=temps", "seq=2", "1970-01-01T00:00:12Z")
	b.lines.await(t, "level=WARN", "readings cannot take some values", "route=readings", "seq=2", "19.6")
	if n := strings.Count(b.lines.String(), "level=WARN"); n != 4 {
		t.Errorf("%d warnings:\n%s", n, b.lines.String())
	}
}

// The births of many nodes are not in memory after a restart, and are known all
// the same.
func TestBirthsStayInTheArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	route := transform.Route{Name: "spark", Topic: "spBv1.0/#", Decode: "sparkplug_b", Table: "metrics", When: ".value == 1",
		Columns: []transform.Column{{Name: "node", Type: store.Text}, {Name: "metric", Type: store.Text}}}
	const nodes = 500
	birth := sparkplug(0, "a", 1, 0)
	birth = birth[:len(birth)-2] // without its seq
	for i := range 300 {
		birth += sparkplug(0, fmt.Sprintf("line/machine/metric %d", i), uint64(i+2), 0)[7:]
		birth = birth[:len(birth)-2]
	}
	b := startRoutes(t, path, log, route)
	for i := range nodes {
		log.send(fmt.Sprintf("spBv1.0/g/NBIRTH/n%d", i), birth)
	}
	log.archived(t)
	b.stop()
	b = startRoutes(t, path, log, route)
	for i := range 3 {
		log.send(fmt.Sprintf("spBv1.0/g/NDATA/n%d", 249*i), sparkplug(1, "", uint64(2+i), 1))
	}
	log.archived(t)
	if mib := heapMiB(); mib > 20 {
		t.Errorf("%d MiB in memory after a restart", mib)
	}
	b.stop()
	if got := shell(t, path, "select node, metric from metrics"); got != "n0|line/machine/metric 0\nn249|line/machine/metric 1\nn498|line/machine/metric 2" {
		t.Errorf("got\n%s", got)
	}
}

func heapMiB() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc >> 20
}

// What a transaction that failed had learned is forgotten with it, and nothing
// else: an alias means what the last birth before has said, through outages and
// restarts.
func TestBirthsThroughOutages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	log := newMemoryLog()
	route := transform.Route{Name: "spark", Topic: "spBv1.0/#", Decode: "sparkplug_b", Table: "metrics",
		Columns: []transform.Column{{Name: "metric", Type: store.Text}, {Name: "value", Type: store.Any}}}
	b := startRoutes(t, path, log, route)
	round, want := 0, 0
	send := func(seq int, messages ...string) {
		var texts []string
		for k, message := range messages {
			for i := range 100 {
				topic, name, alias := fmt.Sprintf("spBv1.0/g/%s/n%d", message, i), "", uint64(7)
				if message[0] == 'D' {
					topic, alias = topic+"/d", 8
				}
				if strings.HasSuffix(message, "BIRTH") {
					name = fmt.Sprintf("m%d", round)
				}
				texts = append(texts, topic, sparkplug(seq+k, name, alias, float64(round)))
			}
		}
		want += len(texts) / 2
		log.send(texts...)
	}
	births := func() { round++; send(0, "NBIRTH", "DBIRTH") }
	data := func() { send(2, "NDATA", "DDATA") }
	for range 3 {
		births()
		awaitOpen(t, log, path)
		b.stop()
		b = startRoutes(t, path, log, route)
		data()
		awaitOpen(t, log, path)
		release := lock(t, path)
		births()
		data()
		births()
		b.lines.await(t, "archive unavailable")
		release()
		data()
		log.archived(t)
	}
	b.stop()
	if got := shell(t, path, "select count(*), sum(metric = 'm' || CAST(value AS INTEGER)) from metrics"); got != fmt.Sprintf("%d|%d", want, want) {
		t.Errorf("rows %s, want %d", got, want)
	}
	if got := shell(t, path, "select count(*) from dead_letters"); got != "0" {
		t.Errorf("%s dead letters", got)
	}
}
