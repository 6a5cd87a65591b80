package transform

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/batch/decode"
)

// The paths of readings are bounded: one, those of a message, and those of
// many messages, by Full.
func TestPathsOfReadingsAreBounded(t *testing.T) {
	numbers := strings.TrimSuffix(strings.Repeat("0,", MaxReadings), ",")
	named := func(n int) string { return `{"` + strings.Repeat("k", n) + `":[` + numbers + `]}` }
	for payload, want := range map[string]string{
		named(50_000): "",
		named(1000):   "readings: the paths of the numbers of one message are longer than 1048576 bytes",
	} {
		a := applier(t, Options{Readings: true})
		a.Apply(record("t", payload))
		if got := show(a); !strings.HasPrefix(got, want) || len(a.Readings) > 0 || len(a.walk.paths) > 0 {
			t.Errorf("%d readings, %d bytes of paths, %s", len(a.Readings), len(a.walk.paths), got)
		}
		if s := a.Stats()[0]; want == "" && (s.Skipped != MaxReadings || !strings.HasPrefix(a.Notes[0].Text, "the path of a number is longer than 4096 bytes: .[\"kkk")) {
			t.Errorf("skipped %d, %v", s.Skipped, a.Notes)
		}
		a.Apply(record("t", `{"`+strings.Repeat("k", 50_000)+`":"text","a":1}`))
		if len(a.Readings) != 1 || string(a.Readings[0].Path) != ".a" {
			t.Errorf("a long name without a number: %v", a.Failures)
		}
	}
	a := applier(t, Options{Readings: true})
	few := `{"` + strings.Repeat("k", 4000) + `":[0,0,0,0,0]}`
	for n := 0; !a.Full(); n++ {
		if a.Apply(record("t", few)); n > 1000 {
			t.Fatal("not full after 20 MB of paths")
		}
	}
	if len(a.Failures) > 0 {
		t.Error(a.Failures[0].Err)
	}
}

// What jq makes of a small message must not overflow the stack, nor fill the
// memory when it is written.
func TestResultsThatCannotBeWritten(t *testing.T) {
	nested := func(n int) string { return fmt.Sprintf("reduce range(%d) as $i (0; [.])", n) }
	many := "reduce range(60) as $i (0; [., .])" // 2^60 values in 60 arrays
	for program, want := range map[string]string{
		nested(DepthLimit):                       "",
		nested(100_000):                          "jq: the result is nested more than 10000 deep",
		"reduce range(100000) as $i (0; {a: .})": "jq: the result is nested more than 10000 deep",
		many:                                     "jq: the results have more than",
	} {
		inColumn := values("TEXT " + program)
		inMap := values("TEXT .")
		inMap.Map = program
		published := inMap
		published.Publish = "s"
		for _, r := range []Route{inColumn, inMap, published} {
			got := apply(t, Options{Objects: r.Publish != ""}, r, "t", `{"a":1}`)
			if underRace && program == many && strings.Contains(got, "did not end in time") {
				continue // to count 64 Mi values takes longer than a worker has
			}
			if failed := strings.HasPrefix(got, "r: "); failed != (want != "") || !strings.Contains(got, want) {
				t.Errorf("%s: got %.200s", program, got)
			}
		}
	}
}

// A row without jq has the same bound.
func TestRowsAreLimited(t *testing.T) {
	r := values("TEXT .a", "TEXT .a", "TEXT .a", "TEXT .a", "TEXT .a", "TEXT .a")
	for _, r := range []Route{r, withJQ(r)} {
		if got := apply(t, Options{}, r, "t", `{"a":"`+strings.Repeat("x", 3<<20)+`"}`); got != "r: the results are larger than 16777216 bytes" {
			t.Errorf("got %.200s", got)
		}
	}
	a := applier(t, Options{}, values("TEXT .a"))
	n := 0
	for ; !a.Full() && n < 1000; n++ {
		a.Apply(record("t", `{"a":"`+strings.Repeat("x", 1<<20)+`"}`))
	}
	if n > 100 || len(a.Failures) > 0 {
		t.Errorf("full after %d records, %v", n, a.Failures)
	}
}

// Slow records suspend a route although others come between them, or none of
// them takes too long alone.
func TestSlowRecordsSuspend(t *testing.T) {
	r := values("REAL .")
	r.Map = `if . == 1 then last(repeat(1)) else . end`
	a := applier(t, Options{TimeLimit: limit}, r)
	w := &a.routes[0]
	w.slow = spent{slowLimit - 3*limit, time.Now()} // as if there had been many
	for n := range 30 {
		a.Apply(record("t", []string{"1", "2"}[n%2]))
	}
	if last := a.Failures[len(a.Failures)-1].Err; !errors.As(last, new(suspended)) {
		t.Errorf("%d failures, the last one %v", len(a.Failures), last)
	}

	now := time.Now()
	after := func(every, took time.Duration) (n int) {
		w := working{}
		for ; w.until.IsZero() && n < 1000; n++ {
			now = now.Add(every)
			a.weigh(&w, took, 100, now)
		}
		return n
	}
	if n := after(2*time.Second, 1900*time.Millisecond); n < 5 || n > 10 {
		t.Errorf("suspended after %d records of 1.9 s", n)
	}
	if n := after(10*time.Second, 1500*time.Millisecond); n != 1000 {
		t.Errorf("suspended after %d records of 1.5 s, one in 10 s", n)
	}
	if n := after(99*time.Millisecond, 99*time.Millisecond); n < 400 || n > 800 {
		t.Errorf("suspended after %d records of 99 ms, want about a minute of them", n)
	}
	if n := after(300*time.Millisecond, 99*time.Millisecond); n != 1000 {
		t.Errorf("suspended after %d records of 99 ms in a third of the time", n)
	}
}

// What counts as slow depends on the size of the payload, and fast records make up for some of it.
func TestLazyRecords(t *testing.T) {
	a := applier(t, Options{}, values("REAL ."))
	for _, c := range []struct {
		took      time.Duration
		bytes     int
		fast      int // records after each
		suspended bool
	}{
		{99 * time.Millisecond, 100, 0, true},
		{99 * time.Millisecond, 100, 10, true},
		{15 * time.Millisecond, 100, 0, true},
		{9 * time.Millisecond, 100, 0, false},
		{15 * time.Millisecond, 100 << 10, 0, false},
		{99 * time.Millisecond, 1 << 20, 0, false},
		{12 * time.Millisecond, 100, 500, false}, // a busy machine
	} {
		w, now, busy := working{}, time.Now(), time.Duration(0)
		for ; w.until.IsZero() && busy < 5*time.Minute; busy += c.took {
			now = now.Add(c.took)
			a.weigh(&w, c.took, c.bytes, now)
			for range c.fast {
				a.weigh(&w, 20*time.Microsecond, c.bytes, now)
			}
		}
		if got := !w.until.IsZero(); got != c.suspended {
			t.Errorf("%+v: suspended %v after %v", c, got, busy)
		}
	}
}

// Strikes in a row are those without a good record between them, of a route without jq too.
func TestStrikesInARow(t *testing.T) {
	a := applier(t, Options{}, values("REAL ."))
	w := &a.routes[0]
	if !w.plain {
		t.Fatal("the route has jq")
	}
	for range 5 {
		w.strike(decode.ErrSlow)
		a.Apply(record("t", "1"))
		w.strike(decode.ErrSlow)
		a.Apply(record("t", "1"))
	}
	if !w.until.IsZero() {
		t.Error("suspended, although no two slow records came one after the other")
	}
}

// With NoSuspend every record is tried.
func TestNoSuspend(t *testing.T) {
	r := values("REAL .")
	r.Map = `if . == 1 then last(repeat(1)) else . end`
	a := applier(t, Options{TimeLimit: limit, NoSuspend: true}, r)
	a.routes[0].slow = spent{slowLimit, time.Now()}
	for range maxStrikes + 1 {
		a.Apply(record("t", "1"))
	}
	a.Apply(record("t", "2"))
	if a.Rows[0].Len() != 1 || len(a.Failures) != maxStrikes+1 {
		t.Errorf("%d rows, %d failures", a.Rows[0].Len(), len(a.Failures))
	}
}

func TestTablesAreLimited(t *testing.T) {
	wide := func(n int) Route {
		return values(strings.Split(strings.TrimSuffix(strings.Repeat("REAL .a,", n), ","), ",")...)
	}
	second := wide(2)
	second.Name, second.Columns[1].Name = "second", "another"
	for _, c := range []struct {
		want   string
		routes []Route
	}{
		{"", []Route{wide(maxColumns)}},
		{"table x would have 501 columns, more than 500", []Route{wide(maxColumns + 1)}},
		{"table x would have 501 columns, more than 500", []Route{wide(maxColumns), second}},
	} {
		if _, err := Compile(c.routes); (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
	for name, free := range map[string]bool{"readings_by_series": false, "mqttetl_x": false, "rows_0": false, "Rows_12": false, "rows_of_x": true, "rows": true} {
		if err := CheckTable(name); (err == nil) != free {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What takes too long to decode is a dead letter, and the route is suspended for
// that: nothing is said of jq.
func TestSlowPayloadsSuspend(t *testing.T) {
	rows := values("INTEGER .n")
	rows.Decode, rows.When = "csv", ".n == 1" // no rows, which would be too many
	items := values("TEXT .")
	items.Decode = "cbor"
	asJQ := items
	asJQ.Map = "length"
	members := values("TEXT .metric")
	members.Decode, members.Topic = "sparkplug_b", "spBv1.0/#"
	toJQ := members
	toJQ.Map = "{metric}"
	long := "\x9a\x00\x0f\x42\x40" + strings.Repeat("\x01", 1_000_000)
	var metrics []metricB
	for i := range 20_000 {
		metrics = append(metrics, metricB{"m", uint64(i), 1})
	}
	for name, c := range map[string]struct {
		route          Route
		topic, payload string
	}{
		"rows":              {rows, "t", "n\n" + strings.Repeat("2\n", 100_000)},
		"one document":      {items, "t", long},
		"one, before jq":    {asJQ, "t", long},
		"metrics":           {members, "spBv1.0/g/NBIRTH/n", payloadB(metrics...)},
		"metrics before jq": {toJQ, "spBv1.0/g/NBIRTH/n", payloadB(metrics...)},
	} {
		t.Run(name, func(t *testing.T) {
			a := applier(t, Options{TimeLimit: time.Millisecond}, c.route)
			for range maxStrikes + 1 {
				a.Apply(record(c.topic, c.payload))
			}
			if len(a.Failures) != maxStrikes+1 {
				t.Fatalf("%d failures: %v", len(a.Failures), show(a))
			}
			if why := oneLine(a.Failures[0].Err); !strings.HasSuffix(why, "decoding it took too long: more than 1ms") && !strings.HasSuffix(why, "decoding it took too long") {
				t.Errorf("a slow record: %s", why)
			}
			if why := oneLine(a.Failures[maxStrikes].Err); why != "not tried: the route is suspended for 1m0s, because decoding its payloads took too long" {
				t.Errorf("the next one: %s", why)
			}
		})
	}
}

// Births that are read again and again from where they are kept hold up the
// archive no longer than other slow records.
func TestLargeBirthsReadAgainSuspend(t *testing.T) {
	store := newBornStore()
	var metrics []metricB
	for i := range 10_000 {
		metrics = append(metrics, metricB{fmt.Sprintf("a metric with a name %d", i), uint64(i), 0})
	}
	route := sparkplugRoute()
	route.When = ".value == 1"
	a := applier(t, Options{Births: store}, route)
	a.Apply(record("spBv1.0/g/NBIRTH/n", payloadB(metrics...)))
	store.append(a.Births())
	a = applier(t, Options{Births: store}, route)
	a.births.limit = 0
	a.routes[0].slow = spent{slowLimit, time.Now().Add(time.Hour)} // nothing is forgiven
	for range 2 {
		a.Apply(record("spBv1.0/g/NDATA/n", payloadB(metricB{"", 1, 1})))
	}
	if len(a.Failures) != 1 || !strings.Contains(oneLine(a.Failures[0].Err), slowBirths) {
		t.Errorf("got %s", show(a))
	}
}
