package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
)

const numberRoutes = `routes:
  - {name: numbers, topic: 'a/{part}', exclude: ['a/1'], decode: json, table: numbers, columns: {n: INTEGER ., half: 'REAL . / 2'}}
  - {name: ones, topic: 'a/1', decode: json, table: numbers, columns: {n: INTEGER .}}
`

// routed adds routes to the configuration.
func (s site) routed(t *testing.T, routes string) {
	t.Helper()
	b, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(b), "routes:")
	s.write(t, text+routes)
}

// ask is every row of a statement on the archive, as text.
func (s site) ask(t *testing.T, statement string) (list []string) {
	t.Helper()
	err := archive.Query(t.Context(), s.archive(), statement, func(_ []string, values []any) error {
		cells := make([]string, len(values))
		for i, v := range values {
			cells[i] = cell(v)
		}
		list = append(list, strings.Join(cells, "|"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// imported writes n numbers into the log, on the topics a/0 to a/2; one in
// thousand is none.
func (s site) imported(t *testing.T, n int) {
	t.Helper()
	var b strings.Builder
	b.WriteString("ts,t,value\n")
	for i := range n {
		value := fmt.Sprint(i)
		if i%1000 == 999 {
			value = "none"
		}
		fmt.Fprintf(&b, "%d,a/%d,%s\n", 1_767_642_776+i, i%3, value)
	}
	path := filepath.Join(s.dir, "numbers.csv")
	writeFile(t, path, b.String())
	if r := call(t, "import", "-c", s.config, "--columns", "time=ts,topic=t,payload=value", path); r.code != 0 {
		t.Fatalf("import: %+v", r)
	}
}

// What SQLite itself makes of the messages must be what the table holds.
const (
	numbersWanted = `SELECT seq, substr(topic, 3), CAST(payload AS INTEGER) FROM msg WHERE topic LIKE 'a/_' AND payload GLOB '[0-9]*' ORDER BY seq`
	numbersHave   = `SELECT seq, coalesce(part, '1'), n FROM numbers ORDER BY seq, rowid`
	lettersWanted = `SELECT seq FROM msg WHERE topic LIKE 'a/_' AND payload NOT GLOB '[0-9]*' ORDER BY seq`
	lettersHave   = `SELECT seq FROM dead_letters WHERE stage LIKE 'transform:%' ORDER BY seq`
)

func (s site) checkNumbers(t *testing.T) {
	t.Helper()
	for want, have := range map[string]string{numbersWanted: numbersHave, lettersWanted: lettersHave} {
		w, h := s.ask(t, want), s.ask(t, have)
		if !slices.Equal(w, h) || len(w) == 0 {
			t.Errorf("%d rows, want %d: %s", len(h), len(w), have)
		}
	}
	if left := s.ask(t, `SELECT name FROM sqlite_schema WHERE name LIKE 'mqttetl_new%' OR name LIKE 'mqttetl_old%'`); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if left := s.ask(t, `SELECT * FROM mqttetl_rerun`); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestRerunBesideTheService kills a rerun and resumes it while the service
// archives what a client publishes: each message is in the table once.
func TestRerunBesideTheService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.routed(t, strings.Replace(numberRoutes, ", half: 'REAL . / 2'", "", 1))
	w.imported(t, 30_000)
	service := start(t, nil, "run", "-c", w.config)
	w.awaitReady(t)
	eventually(t, "all is archived", func() bool { s := w.asked(t); return s.Archive.Cursor >= 30_000 && s.Archive.Lag == 0 })
	w.checkRebuiltOnce(t, service)
}

func (w world) checkRebuiltOnce(t *testing.T, service *process) {
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	published := mqttetl.Seq(30_000)
	publishing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				w.publish(t, 50)
				published += 50
			}
		}
	})
	killed := start(t, nil, "transform", "rerun", "-c", w.config, "--route", "numbers")
	eventually(t, "the rerun has begun", func() bool {
		select {
		case <-killed.done:
			t.Fatalf("the rerun ended: %s", killed.err.String())
		default:
		}
		var n int
		err := archive.Query(t.Context(), w.archive(), `SELECT count(*) FROM mqttetl_rerun WHERE next > first`, func(_ []string, v []any) error {
			n = int(v[0].(int64))
			return nil
		})
		return err == nil && n == 1
	})
	killed.Process.Kill()
	<-killed.done
	before := w.ask(t, `SELECT count(*) FROM mqttetl_rerun`)
	r := call(t, "transform", "rerun", "-c", w.config, "--route", "numbers", "--resume")
	close(stop)
	publishing.Wait()
	if r.code != 0 || r.out != "" || !strings.HasPrefix(r.err, "table numbers: ") || before[0] != "1" {
		t.Fatalf("%+v, %v", r, before)
	}
	w.publish(t, 10)
	eventually(t, "all is archived", func() bool { return w.asked(t).Archive.Cursor >= published+10 })
	w.checkNumbers(t)
	service.terminate(t)
	if strings.Contains(service.err.String(), "archive unavailable") || strings.Contains(service.err.String(), "level=ERROR") {
		t.Errorf("the service was disturbed:\n%s", service.err.String())
	}
}

// archived archives what is in the log and stops.
func (w world) archived(t *testing.T) {
	t.Helper()
	service := start(t, nil, "run", "-c", w.config)
	w.awaitReady(t)
	eventually(t, "all is archived", func() bool { s := w.asked(t); return s.Archive.Cursor > 0 && s.Archive.Lag == 0 })
	service.terminate(t)
}

func TestRerunTakesWhatHasChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.imported(t, 3000)
	w.archived(t)
	rerun := func(more ...string) outcome {
		return call(t, append([]string{"transform", "rerun", "-c", w.config, "--route", "numbers"}, more...)...)
	}
	w.routed(t, strings.ReplaceAll(numberRoutes, "INTEGER", "TEXT"))
	if r := rerun(); r.code != 0 || !strings.Contains(r.err, "2997 rows of 3000 messages, records 1 to 3000; dead letters: 3, before 0") {
		t.Fatalf("%+v", r)
	}
	// The service refuses the other type, and a rerun changes it.
	w.routed(t, numberRoutes)
	if r := call(t, "run", "-c", w.config); r.code != exitConfig || !strings.Contains(r.err, "transform rerun") {
		t.Errorf("%+v", r)
	}
	if r := rerun("--since", "2026-01-05T20:00:00Z"); r.code != exitFailed || !strings.Contains(r.err, "type of n is another") {
		t.Errorf("%+v", r)
	}
	service := start(t, nil, "run", "-c", w.config)
	<-service.done
	if r := rerun(); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	w.checkNumbers(t)
	// Behind it, the service goes on with the table.
	start(t, nil, "run", "-c", w.config)
	w.awaitReady(t)
	w.publish(t, 20)
	eventually(t, "all is archived", func() bool { s := w.asked(t); return s.Archive.Cursor == 3020 && s.Archive.Lag == 0 })
	w.checkNumbers(t)
	w.routed(t, strings.ReplaceAll(numberRoutes, "INTEGER", "TEXT"))
	if r := rerun(); r.code != exitFailed || !strings.Contains(r.err, "hint: stop the service") {
		t.Errorf("%+v", r)
	}
	// Rows of before are kept, whatever routes make now.
	w.routed(t, strings.Replace(numberRoutes, "INTEGER .,", "INTEGER . + 1,", 1))
	if r := rerun("--since", "2026-01-05T20:20:00Z"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := rerun("--since", "2100-01-01T00:00:00Z"); r.code != 0 || r.err != "no archived message was received since 2100-01-01T00:00:00Z: table numbers stays as it is\n" {
		t.Errorf("%+v", r)
	}
	first := w.ask(t, `SELECT min(seq) FROM messages WHERE time >= 1767644400000000000`)[0]
	if got := w.ask(t, `SELECT sum(n <> CAST(payload AS INTEGER) AND m.seq < `+first+`), sum(n = CAST(payload AS INTEGER) AND m.seq >= `+first+` AND part IS NOT NULL), count(*)
		FROM numbers n JOIN messages m ON m.seq = n.seq`); got[0] != "0|0|3017" {
		t.Errorf("since %s: %v", first, got)
	}
}

// sparkplug writes three messages into the log: data, the birth that it needs, data.
func (s site) sparkplug(t *testing.T) {
	t.Helper()
	lines := "ts,t,value\n"
	for i, m := range []string{
		"NDATA/press4,CNDU4P24MxIUEAIY0NTg/bgzIAppAAAAAACANEAYCQ==",
		"NBIRTH/press4,CMCD4f24MxISCgViZFNlcRjAg+H9uDMgBFgDEiEKFE5vZGUgQ29udHJvbC9SZWJpcnRoGMCD4f24MyALcAASKAoSSW5wdXRzL1RlbXBlcmF0dXJlEAIYwIPh/bgzIAppAAAAAACANUASJwoTUHJvcGVydGllcy9GaXJtd2FyZRADGMCD4f24MyAMegUyLjEuMBgA",
		"NDATA/press4,COCi4f24MxISEAIY4KLh/bgzaQAAAAAAwDVAGAI=",
	} {
		lines += fmt.Sprintf("%d,spBv1.0/plant/%s\n", 1_767_642_776+i, m)
	}
	path := filepath.Join(s.dir, "sp.csv")
	writeFile(t, path, lines)
	if r := call(t, "import", "-c", s.config, "--columns", "time=ts,topic=t,payload_base64=value", path); r.code != 0 {
		t.Fatalf("%+v", r)
	}
}

// A service that began behind the births cannot read the data; the archive has
// the births.
func TestRerunFindsBirths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sparkplug(t)
	w.archived(t)
	w.routed(t, "routes:\n  - {name: metrics, topic: 'spBv1.0/#', decode: sparkplug_b, table: metrics, columns: {message: TEXT, metric: TEXT, value: ANY}}\n")
	if r := call(t, "transform", "rerun", "-c", w.config, "--route", "metrics"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for _, end := range []string{"-wal", "-shm"} { // no service is there to use them
		if _, err := os.Stat(w.archive() + end); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left, %v", end, err)
		}
	}
	got := strings.Join(w.ask(t, `SELECT seq, message, metric, value FROM metrics ORDER BY seq, rowid`), "\n")
	if !strings.HasPrefix(got, "1|NDATA|Inputs/Temperature|20.5\n2|NBIRTH|bdSeq|3\n") || !strings.HasSuffix(got, "\n3|NDATA|Inputs/Temperature|21.75") {
		t.Errorf("metrics:\n%s", got)
	}
	if births := w.ask(t, `SELECT count(*) FROM births WHERE route = 'metrics'`); births[0] != "2" {
		t.Errorf("%s births", births)
	}
}

// Metrics of an alias that only a later birth declares cost nothing but
// themselves: rows of the rest, and one dead letter. A rerun adds their rows, and
// no other a second time; what stays bad keeps its dead letter.
func TestRerunFindsMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.metrics(t)
	w.archived(t)
	w.routed(t, "routes:\n  - {name: metrics, topic: 'spBv1.0/#', decode: sparkplug_b, table: metrics, columns: {message: TEXT, metric: TEXT, value: REAL}}\n")
	for range 2 {
		r := call(t, "transform", "rerun", "-c", w.config, "--route", "metrics")
		if r.code != 0 || !strings.HasPrefix(r.err, "table metrics: 7 rows of 4 messages, records 1 to 4; dead letters: 1, before ") {
			t.Fatalf("%+v", r)
		}
		got := strings.Join(w.ask(t, `SELECT seq, message, metric, value FROM metrics ORDER BY seq, metric`), "\n")
		if want := "1|NBIRTH|a|1\n2|NDATA|a|2\n2|NDATA|b|3\n3|NBIRTH|a|5\n3|NBIRTH|b|6\n3|NBIRTH|c|7\n4|NDATA|a|8"; got != want {
			t.Errorf("metrics:\n%s\nwant\n%s", got, want)
		}
		if got := w.ask(t, `SELECT seq, stage, reason FROM dead_letters`); !slices.Equal(got, []string{"2|transform:metrics|metrics [2] of 3: column value: NaN is no number that a column holds"}) {
			t.Errorf("dead letters %q", got)
		}
	}
}

// metrics writes four messages of Sparkplug into the log: a birth, data of which
// one metric is declared later and one is NaN, the later birth, data.
func (s site) metrics(t *testing.T) {
	t.Helper()
	lines := "ts,t,value\n"
	for i, m := range []struct{ message, payload string }{
		{"NBIRTH", payloadB("a", 1, 1)}, {"NDATA", payloadB("", 1, 2, "", 2, 3, "", 1, math.NaN())},
		{"NBIRTH", payloadB("a", 1, 5, "b", 2, 6, "c", 3, 7)}, {"NDATA", payloadB("", 1, 8)},
	} {
		lines += fmt.Sprintf("%d,spBv1.0/plant/%s/press4,%s\n", 1_767_642_776+i, m.message, base64.StdEncoding.EncodeToString([]byte(m.payload)))
	}
	path := filepath.Join(s.dir, "metrics.csv")
	writeFile(t, path, lines)
	if r := call(t, "import", "-c", s.config, "--columns", "time=ts,topic=t,payload_base64=value", path); r.code != 0 {
		t.Fatalf("%+v", r)
	}
}

// payloadB is a payload of Sparkplug B: of each metric its name, "" for none, its
// alias and its value.
func payloadB(metrics ...any) string {
	var p []byte
	for i := 0; i < len(metrics); i += 3 {
		var m []byte
		if name := metrics[i].(string); name != "" {
			m = protowire.AppendString(protowire.AppendTag(m, 1, protowire.BytesType), name)
			m = protowire.AppendVarint(protowire.AppendTag(m, 4, protowire.VarintType), 10)
		}
		m = protowire.AppendVarint(protowire.AppendTag(m, 2, protowire.VarintType), uint64(metrics[i+1].(int)))
		value, ok := metrics[i+2].(float64)
		if !ok {
			value = float64(metrics[i+2].(int))
		}
		m = protowire.AppendFixed64(protowire.AppendTag(m, 13, protowire.Fixed64Type), math.Float64bits(value))
		p = protowire.AppendBytes(protowire.AppendTag(p, 2, protowire.BytesType), m)
	}
	return string(p)
}

// sensorArchive is an archive of n messages of 128 bytes.
func sensorArchive(tb testing.TB, path string, n int) {
	a, err := archive.Open(path, "0123456789abcdef")
	if err != nil {
		tb.Fatal(err)
	}
	defer a.Close()
	for at := 0; at < n; {
		var recs []mqttetl.Record
		for range min(10_000, n-at) {
			payload := fmt.Sprintf(`{"temperature":%d.%02d,"humidity":%d.5,"battery":%d,"linkquality":%d,"voltage":3%03d,"update":{"state":"idle"},"id":"%06d"}`,
				15+at%20, at%100, 30+at%60, at%100, 100+at%100, at%1000, at)
			recs = append(recs, mqttetl.Record{Seq: mqttetl.Seq(at + 1), Time: 1_760_000_000_000_000_000 + int64(at)*1_000_000, Source: "plant",
				Message: mqttetl.Message{Topic: fmt.Appendf(nil, "factory/line%d/machine%d", at%10, at/10%10), Payload: []byte(payload + fmt.Sprintf("%*s", 128-len(payload), "")), Flags: 1}})
			at++
		}
		if err := a.Append(recs); err != nil {
			tb.Fatal(err)
		}
		if err := a.Commit(); err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkRerun rebuilds a table of three columns from 300,000 messages.
func BenchmarkRerun(b *testing.B) {
	const n = 300_000
	s := site{dir: b.TempDir()}
	s.config = filepath.Join(s.dir, "c.yaml")
	sensorArchive(b, s.archive(), n)
	text := fmt.Sprintf(`sources: [{name: plant, url: 'mqtt://127.0.0.1:1', subscribe: ["#"]}]
log: {dir: %q}
archive: {path: %q}
routes:
  - {name: sensors, topic: 'factory/{line}/{machine}', decode: json, table: sensors, columns: {temperature: REAL, humidity: REAL, battery: INTEGER}}
`, s.logDir(), s.archive())
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	var spent time.Duration
	for b.Loop() {
		begun := time.Now()
		var out lockedBuffer
		if code := exec(b.Context(), []string{"transform", "rerun", "-c", s.config, "--route", "sensors"}, strings.NewReader(""), &out, &out); code != 0 {
			b.Fatal(out.String())
		}
		spent += time.Since(begun)
	}
	b.ReportMetric(float64(n)*float64(b.N)/spent.Seconds(), "messages/s")
}
