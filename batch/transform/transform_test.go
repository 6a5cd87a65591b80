package transform

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == WorkCommand {
		if err := Work(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// received is when all records of these tests were.
var received = time.Date(2026, 1, 5, 20, 0, 0, 0, time.UTC)

func record(topic, payload string) *mqttetl.Record {
	return &mqttetl.Record{Seq: 7, Time: received.UnixNano(), Source: "s",
		Message: mqttetl.Message{Topic: []byte(topic), Payload: []byte(payload)}}
}

func applier(tb testing.TB, o Options, routes ...Route) *Applier {
	tb.Helper()
	s, err := Compile(routes)
	must(tb, err)
	a, err := s.Applier(o)
	must(tb, err)
	tb.Cleanup(a.Close)
	return a
}

// show is what an Applier has gathered, a line each.
func show(a *Applier) string {
	var b strings.Builder
	for i := range a.Rows {
		rows := &a.Rows[i]
		for k := range rows.Len() {
			fmt.Fprintf(&b, "%s:", rows.Table.Name)
			for _, v := range rows.Row(k) {
				fmt.Fprintf(&b, " %v", show1(v))
			}
			b.WriteString("\n")
		}
	}
	for _, o := range a.Objects {
		fmt.Fprintf(&b, "%s %d: %s\n", o.Subject, o.N, o.Body)
	}
	for _, f := range a.Failures {
		fmt.Fprintf(&b, "%s: %s\n", f.Route, f.DeadLetter().Reason)
	}
	return b.String()
}

func show1(v store.Value) string {
	switch x := v.Interface().(type) {
	case nil:
		return "NULL"
	case string:
		return fmt.Sprintf("%q", x)
	case []byte:
		return fmt.Sprintf("x%x", x)
	case float64:
		if x == math.Trunc(x) {
			return fmt.Sprintf("%.1f", x)
		}
	case int64:
		if x == received.UnixNano() {
			return "received"
		}
	}
	return fmt.Sprint(v.Interface())
}

var climate = Route{Name: "climate", Topic: "zigbee2mqtt/{device}", Exclude: []string{"zigbee2mqtt/bridge/#"}, Decode: "json",
	When: ".temperature != null", Table: "climate",
	Time:    Time{Path: ".last_seen"},
	Columns: []Column{{"temperature", store.Real, ".temperature"}, {"humidity", store.Real, ".humidity"}, {"battery", store.Integer, ".battery?"}}}

var power = Route{Name: "power", Topic: "tele/{device}/SENSOR",
	Map:     `.ENERGY | {power: (.Power | if type == "array" then .[0] else . end), total: .Total}`,
	Time:    Time{Path: ".Time", Timezone: "Europe/Berlin"},
	Columns: []Column{{"power", store.Real, ""}, {"total", store.Real, ""}}, Table: "power", Publish: "energy.{device}"}

// apply is what one route makes of one record.
func apply(t *testing.T, o Options, r Route, topic, payload string) string {
	t.Helper()
	a := applier(t, o, r)
	a.Apply(record(topic, payload))
	return strings.TrimSpace(show(a))
}

func TestRoutesOfTheIssue(t *testing.T) {
	for _, c := range []struct {
		r                    Route
		topic, payload, want string
	}{
		{climate, "zigbee2mqtt/attic", `{"temperature":21.5,"humidity":40,"battery":97,"last_seen":"2026-01-05T19:52:56Z"}`,
			`climate: 7 1767642776000000000 "attic" 21.5 40.0 97`},
		{climate, "zigbee2mqtt/attic", `{"temperature":21.5,"humidity":null}`, `climate: 7 received "attic" 21.5 NULL NULL`},
		{climate, "zigbee2mqtt/attic", `{"humidity":40}`, ``},
		{climate, "zigbee2mqtt/attic/set", `{"temperature":21.5,"humidity":40}`, ``},
		{climate, "zigbee2mqtt/bridge", `{"temperature":21.5,"humidity":40}`, ``},
		{climate, "zigbee2mqtt/attic", `{"temperature":21.5}`, `climate: column humidity: there is no .humidity`},
		{climate, "zigbee2mqtt/attic", `{"temperature":"warm","humidity":1}`, `climate: column temperature: the text "warm" is no REAL`},
		{power, "tele/plug1/SENSOR", `{"Time":"2026-01-05T20:52:56","ENERGY":{"Power":[56,3],"Total":1.5}}`, `power: 7 1767642776000000000 "plug1" 56.0 1.5`},
		{power, "tele/plug1/SENSOR", `{"Time":"2026-01-05T20:52:56","ENERGY":{"Power":3,"Total":"1.5"}}`, `power: 7 1767642776000000000 "plug1" 3.0 1.5`},
	} {
		if got := apply(t, Options{}, c.r, c.topic, c.payload); got != c.want {
			t.Errorf("%s %s:\ngot  %s\nwant %s", c.topic, c.payload, got, c.want)
		}
	}
	got := apply(t, Options{Objects: true}, power, "tele/plug1/SENSOR", `{"Time":"2026-01-05T20:52:56","ENERGY":{"Power":[56,3],"Total":1.5}}`)
	if got != `energy.plug1 0: {"power":56,"total":1.5}` {
		t.Errorf("published %s", got)
	}
}

// What a map has made before it fails is published as little as it is a row.
// Where only a column fails, what is published is what the map made.
func TestFailedMapPublishesNulls(t *testing.T) {
	for program, want := range map[string]string{
		`{power: .a}, {power: ("x" | error)}`: `energy.plug1 0: {"power":null}` + "\npower: map: jq: error: x",
		`{power: .a}, {power: "x"}`: `energy.plug1 0: {"power":1}` + "\n" + `energy.plug1 1: {"power":"x"}` + "\n" +
			`power: column power: the text "x" is no REAL`,
	} {
		r := power
		r.Map, r.OnError, r.Time = program, OnErrorNull, Time{}
		r.Columns = []Column{{"power", store.Real, ""}}
		if got := apply(t, Options{Objects: true}, r, "tele/plug1/SENSOR", `{"a":1}`); got != want {
			t.Errorf("%s:\ngot\n%s\nwant\n%s", program, got, want)
		}
	}
}

// Three columns of a JSON document cost no allocation.
func TestPlainRouteAllocatesNothing(t *testing.T) {
	r := climate
	r.When, r.Time = "", Time{}
	a := applier(t, Options{}, r)
	rec := record("zigbee2mqtt/attic", `{"temperature":21.5,"humidity":40,"battery":97,"last_seen":"2026-01-05T19:52:56Z"}`)
	a.Apply(rec) // the topic is known then, and there is room for a row
	if n := testing.AllocsPerRun(1000, func() { a.Reset(); a.Apply(rec) }); n != 0 || a.Rows[0].Len() != 1 {
		t.Errorf("%v allocations a message, %d rows", n, a.Rows[0].Len())
	}
}
