package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// objects are the messages of a stream: id without the log's, subject, body.
func (w world) objects(t *testing.T, stream string) (list []string) {
	t.Helper()
	s, err := w.jetStream(t).Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	for n := s.CachedInfo().State.FirstSeq; n <= s.CachedInfo().State.LastSeq; n++ {
		m, err := s.GetMsg(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		_, id, _ := strings.Cut(m.Header.Get("Nats-Msg-Id"), "-")
		list = append(list, id+" "+m.Subject+" "+string(m.Data))
	}
	return list
}

func (w world) jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	c, err := nats.Connect(w.nats.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// publishes runs the service until all is archived and published.
func (w world) publishes(t *testing.T) *process {
	t.Helper()
	service := start(t, nil, "run", "-c", w.config)
	w.awaitReady(t)
	eventually(t, "all is archived and published", func() bool {
		s := w.asked(t)
		return s.Archive.Cursor > 0 && s.Archive.Lag == 0 && s.Publish.Lag == 0
	})
	return service
}

// TestRerunPublishes: what could not be published is, when route and stream have
// been mended, once and with the id that it would have had.
func TestRerunPublishes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.imported(t, 3000)
	w.routed(t, "routes:\n  - {name: numbers, topic: 'a/{part}', decode: json, publish: 'out.{part}', columns: {n: INTEGER .}}\n")
	letters := `SELECT seq FROM dead_letters WHERE stage = 'publish:numbers' ORDER BY seq`
	service := w.publishes(t)
	eventually(t, "dead letters are in the archive", func() bool { return slices.Equal(w.ask(t, letters), []string{"1000", "2000", "3000"}) })
	service.terminate(t)
	rerun := func(more ...string) outcome {
		return call(t, append([]string{"transform", "rerun", "-c", w.config, "--route", "numbers"}, more...)...)
	}
	if r := rerun(); r.code != exitUsage || !strings.Contains(r.err, "--publish publishes its dead letters again") {
		t.Errorf("%+v", r)
	}
	if r := rerun("--publish", "--resume"); r.code != exitUsage {
		t.Errorf("%+v", r)
	}

	w.routed(t, "routes:\n  - {name: numbers, topic: 'a/{part}', decode: text, publish: 'out.{part}', columns: {n: TEXT .}}\n")
	mapped := jetstream.StreamConfig{Name: "TELEMETRY_MAPPED", Subjects: []string{"out.0"}}
	if _, err := w.jetStream(t).UpdateStream(t.Context(), mapped); err != nil {
		t.Fatal(err)
	}
	if r := rerun("--publish"); r.code != exitFailed || !strings.Contains(r.err, "1 dead letter published, 2 stay: publish to out.1: no stream takes the subject") {
		t.Errorf("%+v", r)
	}
	if got := w.ask(t, letters); !slices.Equal(got, []string{"2000", "3000"}) {
		t.Errorf("dead letters of records %v", got)
	}
	mapped.Subjects = []string{"out.*"}
	if _, err := w.jetStream(t).UpdateStream(t.Context(), mapped); err != nil {
		t.Fatal(err)
	}
	service = w.publishes(t)
	if r := rerun("--publish"); r.code != 0 || r.err != "route numbers: 2 dead letters published\n" {
		t.Errorf("%+v", r)
	}
	if r := rerun("--publish"); r.code != 0 || r.err != "route numbers: no dead letter of publish:numbers is selected\n" {
		t.Errorf("%+v", r)
	}
	service.terminate(t)
	if strings.Contains(service.err.String(), "archive unavailable") {
		t.Errorf("the service was disturbed:\n%s", service.err.String())
	}
	objects := w.objects(t, "TELEMETRY_MAPPED")
	if want := []string{`1000-numbers-0 out.0 {"n":"none"}`, `2000-numbers-0 out.1 {"n":"none"}`, `3000-numbers-0 out.2 {"n":"none"}`}; !slices.Equal(objects[2997:], want) {
		t.Errorf("objects %v", objects[2997:])
	}
	if slices.Sort(objects); len(slices.Compact(objects)) != 3000 {
		t.Errorf("%d objects", len(objects))
	}
}

// Sparkplug data that came before its birth is published by the names of a later one.
func TestRerunPublishesSparkplug(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sparkplug(t)
	w.routed(t, sparkplugRoute)
	service := w.publishes(t)
	eventually(t, "the dead letter is in the archive", func() bool {
		return slices.Equal(w.ask(t, `SELECT seq FROM dead_letters WHERE stage = 'publish:metrics'`), []string{"1"})
	})
	service.terminate(t)
	before := w.objects(t, "TELEMETRY_MAPPED")
	rerun := func() outcome {
		return call(t, "transform", "rerun", "-c", w.config, "--route", "metrics", "--publish")
	}
	limit := func(messages int64) {
		full := jetstream.StreamConfig{Name: "TELEMETRY_MAPPED", Subjects: []string{"sp.*"}, Discard: jetstream.DiscardNew, MaxMsgs: messages}
		if _, err := w.jetStream(t).UpdateStream(t.Context(), full); err != nil {
			t.Fatal(err)
		}
	}
	limit(int64(len(before)))
	if r := rerun(); r.code == 0 {
		t.Errorf("published to a full stream: %+v", r)
	}
	if got := w.ask(t, `SELECT seq FROM dead_letters WHERE stage = 'publish:metrics'`); !slices.Equal(got, []string{"1"}) {
		t.Fatalf("dead letters of records %v, although nothing was acknowledged", got)
	}
	limit(-1)
	if r := rerun(); r.code != 0 || r.err != "route metrics: 1 dead letter published\n" {
		t.Fatalf("%+v", r)
	}
	want := append(before, `1-metrics-0 sp.press4 {"message":"NDATA","metric":"Inputs/Temperature","value":20.5}`)
	if got := w.objects(t, "TELEMETRY_MAPPED"); len(before) == 0 || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The object of a metric that could not be named is published by the names of a
// later birth, under an id of its own; the others of its message are not again.
func TestRerunPublishesMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.metrics(t)
	w.routed(t, strings.Replace(sparkplugRoute, "value: ANY", "value: REAL", 1))
	service := w.publishes(t)
	letters := `SELECT seq, reason FROM dead_letters WHERE stage = 'publish:metrics'`
	eventually(t, "the dead letter is in the archive", func() bool {
		return slices.Equal(w.ask(t, letters), []string{"2|metrics [1-2] of 3: NDATA of plant/press4: metric 1: alias 2 is not in its birth; column value: NaN is no number that a column holds"})
	})
	service.terminate(t)
	before := w.objects(t, "TELEMETRY_MAPPED")
	if len(before) != 6 {
		t.Errorf("published %q", before)
	}
	if r := call(t, "transform", "rerun", "-c", w.config, "--route", "metrics", "--publish"); r.code != exitFailed || !strings.Contains(r.err, "1 stay: ") {
		t.Errorf("%+v", r)
	}
	want := append(before, `2-metrics-20000 sp.press4 {"message":"NDATA","metric":"b","value":3}`)
	if got := w.objects(t, "TELEMETRY_MAPPED"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	w.routed(t, strings.Replace(sparkplugRoute, "value: ANY", "value: 'REAL if .value | isnormal then .value else null end'", 1))
	if r := call(t, "transform", "rerun", "-c", w.config, "--route", "metrics", "--publish"); r.code != 0 || r.err != "route metrics: 1 dead letter published\n" {
		t.Errorf("%+v", r)
	}
	want = append(want, `2-metrics-30000 sp.press4 {"message":"NDATA","metric":"a","value":null}`)
	if got := w.objects(t, "TELEMETRY_MAPPED"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
