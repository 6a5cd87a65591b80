package e2e

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/sink/store"
	"github.com/mqttetl/mqttetl/test/service"
)

const testRoutes = `routes:
  - name: numbers
    topic: e2e/{run}/{part}
    decode: json
    table: numbers
    columns: {n: INTEGER, half: REAL .half?}
    publish: out.{part}
  - name: parts
    topic: e2e/#
    map: '.list[] | {x: ., double: (. * 2)}'
    table: parts
    columns: {x: INTEGER, double: INTEGER}
    on_error: "null"
`

// routedPayload is JSON; one in 50 has lost its end, and one its beginning.
func routedPayload(i int64) string {
	p := fmt.Sprintf(`{"n":%d,"half":%d.5,"list":[%d,%d]}`, i, i/2, i, i+1)
	switch i % 50 {
	case 0:
		p = p[:len(p)-1]
	case 25:
		p = p[1:]
	}
	return p
}

// TestKillWithRoutes kills the service eight times while routes are applied: every
// table has exactly the rows that the routes make of the archived messages.
func TestKillWithRoutes(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1, Routes: testRoutes, Readings: true})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	// The rate keeps the service at work at each kill; without one there are tens of
	// thousands of messages on an idle machine, and checking each takes all the time.
	p := &Publisher{Broker: w.broker.URL, Run: "routes", QoS: 1, Topics: 20, Workers: 8, Rate: 3000, Payload: routedPayload}
	stop := w.publish(p)
	for range 8 {
		w.must(p.AwaitAcked(w.ctx, p.Acked()+rnd.IntN(400)))
		w.Kill()
		w.start()
	}
	w.must(p.AwaitAcked(w.ctx, p.Acked()+100))
	stop()
	w.account(p)

	want := applyAgain(t, w)
	for table, query := range map[string]string{
		"numbers":      `SELECT seq, time, run, part, n, half FROM numbers ORDER BY seq, rowid`,
		"parts":        `SELECT seq, time, x, "double" FROM parts ORDER BY seq, rowid`,
		"readings":     `SELECT s.topic, s.path, r.time, r.value FROM readings r JOIN series s ON s.id = r.series_id`,
		"dead_letters": `SELECT seq, stage FROM dead_letters WHERE stage LIKE 'transform:%' ORDER BY seq, stage`,
		"latest":       `SELECT topic, seq FROM latest`,
	} {
		got := query1(t, w.Archive(), query)
		if table == "readings" || table == "latest" { // in no order of their own
			slices.Sort(got)
			slices.Sort(want[table])
		}
		if len(got) < 10 {
			t.Errorf("table %s has only %d rows", table, len(got))
		}
		if !slices.Equal(got, want[table]) {
			t.Errorf("table %s has %d rows, the messages make %d; the first difference is %s", table, len(got), len(want[table]), difference(got, want[table]))
		}
	}
	objects, err := ReadStream(w.ctx, w.nats.URL(), "E2E_MAPPED")
	w.must(err)
	var published []string
	for _, m := range objects {
		published = append(published, m.ID[17:]+" "+m.Subject+" "+m.Payload)
	}
	slices.Sort(published)
	slices.Sort(want["publish"])
	if !slices.Equal(published, want["publish"]) {
		t.Errorf("%d objects in the stream, the messages make %d; the first difference is %s", len(published), len(want["publish"]), difference(published, want["publish"]))
	}
}

// TestEndlessRoute: a jq program that never ends holds up neither the PUBACKs nor
// the raw messages in NATS, and the archive not for long.
func TestEndlessRoute(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 1, Routes: `routes:
  - {name: endless, topic: "e2e/#", map: "last(repeat(1))", table: e, columns: {x: REAL}, publish: out}
`})
	p := &Publisher{Broker: w.broker.URL, Run: "endless", QoS: 1, Topics: 5, Workers: 4}
	w.must(p.Publish(w.ctx, 3000))
	st, err := w.Await(w.ctx, "NATS has all", func(st service.Status) bool { return st.NATS.Cursor >= 3000 })
	w.must(err)
	t.Logf("when NATS had all, the archive was at %d", st.Archive.Cursor)
	w.account(p)
	got := query1(t, w.Archive(), `SELECT count(*) = (SELECT count(*) FROM messages) FROM dead_letters WHERE stage = 'transform:endless'`)
	if !slices.Equal(got, []string{"1"}) {
		t.Error("not every message is a dead letter of the route")
	}
}

// applyAgain is what the routes make of the archived messages, by table.
func applyAgain(t *testing.T, w *world) map[string][]string {
	t.Helper()
	src, err := os.ReadFile(w.Config())
	w.must(err)
	cfg, err := config.Parse("e2e", src, os.LookupEnv)
	w.must(err)
	set, err := transform.Compile(cfg.Routes)
	w.must(err)
	rows, err := set.Applier(transform.Options{Readings: true})
	w.must(err)
	defer rows.Close()
	objects, err := set.Applier(transform.Options{Objects: true})
	w.must(err)
	defer objects.Close()
	want, latest := map[string][]string{}, map[string]string{}
	for _, m := range messages(t, w.Archive()) {
		rows.Reset()
		objects.Reset()
		rows.Apply(&m)
		objects.Apply(&m)
		for i, table := range set.Tables() {
			for k := range rows.Rows[i].Len() {
				want[table.Name] = append(want[table.Name], line(rows.Rows[i].Row(k)))
			}
		}
		for _, r := range rows.Readings {
			want["readings"] = append(want["readings"], fmt.Sprint(string(r.Topic), "|", string(r.Path), "|", r.Time, "|", r.Value))
		}
		for _, f := range rows.Failures {
			if !f.Nulls {
				want["dead_letters"] = append(want["dead_letters"], fmt.Sprint(f.Seq, "|", mqttetl.TransformStage(f.Route)))
			}
		}
		for _, o := range objects.Objects {
			want["publish"] = append(want["publish"], fmt.Sprintf("%d-%s-%d %s %s", o.Seq, o.Route, o.N, o.Subject, o.Body))
		}
		latest[string(m.Topic)] = fmt.Sprint(string(m.Topic), "|", m.Seq)
	}
	for _, l := range latest {
		want["latest"] = append(want["latest"], l)
	}
	return want
}

func line(row []store.Value) string {
	var b strings.Builder
	for i, v := range row {
		if i > 0 {
			b.WriteByte('|')
		}
		fmt.Fprint(&b, v.Interface())
	}
	return b.String()
}

// messages are those of the archive, in their order.
func messages(t *testing.T, path string) (list []mqttetl.Record) {
	t.Helper()
	eachRow(t, path, `SELECT m.seq, m.time, t.topic, m.payload FROM messages m JOIN topics t ON t.id = m.topic_id ORDER BY m.seq`, func(v []any) {
		list = append(list, mqttetl.Record{Seq: mqttetl.Seq(v[0].(int64)), Time: v[1].(int64), Message: mqttetl.Message{
			Topic: []byte(v[2].(string)), Payload: fmt.Append(nil, v[3])}})
	})
	return list
}

// query1 is each row of a query as one text.
func query1(t *testing.T, path, query string) (list []string) {
	t.Helper()
	eachRow(t, path, query, func(v []any) {
		texts := make([]string, len(v))
		for i := range v {
			texts[i] = fmt.Sprint(v[i])
		}
		list = append(list, strings.Join(texts, "|"))
	})
	return list
}

func eachRow(t *testing.T, path, query string, f func([]any)) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		f(values)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// difference shows the first place where two lists differ.
func difference(got, want []string) string {
	at := func(list []string, i int) string {
		if i < len(list) {
			return list[i]
		}
		return "nothing"
	}
	for i := 0; ; i++ {
		if i >= max(len(got), len(want)) || at(got, i) != at(want, i) {
			return fmt.Sprintf("%s in place of %s", at(got, i), at(want, i))
		}
	}
}
