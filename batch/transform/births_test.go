package transform

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/sink/store"
)

// bornStore is Births as the archive keeps them.
type bornStore struct {
	values map[string]string // of route r
	flat   bool              // there are no devices
	asked  int
	wait   time.Duration // until it answers
	err    error
}

func newBornStore() *bornStore { return &bornStore{values: map[string]string{}} }

func (s *bornStore) Birth(_, key string) (string, error) {
	time.Sleep(s.wait)
	s.asked++
	return s.values[key], s.err
}

func (s *bornStore) BirthsAfter(route, after string, max int) (list []store.Birth, err error) {
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		if key > after && len(list) < max {
			list = append(list, store.Birth{Route: route, Key: key, Value: s.values[key]})
		}
	}
	return list, s.err
}

func (s *bornStore) append(list []store.Birth) {
	for _, b := range list {
		switch {
		case b.Below && s.flat: // to look for them at each birth would take all day
		case b.Below:
			maps.DeleteFunc(s.values, func(key, _ string) bool { return strings.HasPrefix(key, b.Key) })
		case b.Value == "":
			delete(s.values, b.Key)
		default:
			s.values[b.Key] = b.Value
		}
	}
}

func sparkplugRoute() Route {
	r := values("TEXT .node", "TEXT .device", "TEXT .metric", "REAL .value")
	r.Topic, r.Decode = "spBv1.0/#", "sparkplug_b"
	return r
}

// What is looked up in the store, at whatever moment something was taken there,
// forgotten here, or begun anew, is what a memory without bounds has.
func TestBirthsOfAStore(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		store := newBornStore()
		bounded := func() *Applier {
			a := applier(t, Options{Births: store}, sparkplugRoute())
			a.births.limit = rapid.SampledFrom([]int{0, 1000, 3000, knownBytes}).Draw(r, "limit")
			return a
		}
		endless, a := applier(t, Options{}, sparkplugRoute()), bounded()
		for range rapid.IntRange(20, 100).Draw(r, "steps") {
			switch rapid.IntRange(0, 9).Draw(r, "step") {
			case 0:
				store.append(a.Births())
				a = bounded()
				continue
			case 1, 2:
				store.append(a.Births())
				continue
			}
			node := rapid.SampledFrom([]string{"a", "b", "b/", "c"}).Draw(r, "node")
			node, isDevice := strings.CutSuffix(node, "/")
			message := rapid.SampledFrom([]string{"NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH", "DDATA", "NDATA"}).Draw(r, "message")
			topic := "spBv1.0/g/" + message + "/" + node
			if message[0] == 'D' {
				topic += "/" + cmp.Or(map[bool]string{true: "x"}[isDevice], rapid.SampledFrom([]string{"d", "e"}).Draw(r, "device"))
			}
			m := metricB{alias: rapid.Uint64Range(1, 2).Draw(r, "alias"), value: 1}
			if strings.HasSuffix(message, "BIRTH") {
				m.name = rapid.SampledFrom([]string{"speed", "load"}).Draw(r, "name")
			}
			rec := record(topic, payloadB(m))
			endless.Reset()
			a.Reset()
			endless.Apply(rec)
			a.Apply(rec)
			if got, want := show(a), show(endless); got != want {
				r.Fatalf("%s: got\n%s\nwant\n%s", topic, got, want)
			}
			if a.births.used.Len() > 1 && a.births.bytes > a.births.limit {
				r.Fatalf("%d bytes, at most %d", a.births.bytes, a.births.limit)
			}
		}
		if a.births.pending < 0 || a.births.bytes < 0 {
			r.Fatalf("sizes %d and %d", a.births.pending, a.births.bytes)
		}
		store.append(a.Births())
		endless.Births()
		want := map[string]string{}
		for key, e := range endless.routes[0].memory.known {
			if v := e.value(); v != "" {
				want[key] = untimed(v)
			}
		}
		for key, v := range store.values {
			store.values[key] = untimed(v)
		}
		if !maps.Equal(store.values, want) {
			r.Fatalf("stored %v\nwant %v", store.values, want)
		}
	})
}

// untimed is a value without the time of a death.
func untimed(value string) string {
	m := map[string]any{}
	if err := json.Unmarshal([]byte(value), &m); err != nil {
		return err.Error()
	}
	if m["died"] != nil {
		m["died"] = 1
	}
	return asJSON(m)
}

// Large births, and many small ones, take the memory of a few.
func TestBirthsInMemoryAreBounded(t *testing.T) {
	var metrics []metricB
	for i := range 5000 {
		metrics = append(metrics, metricB{fmt.Sprintf("line/machine/metric %d", i), uint64(i), 0})
	}
	large, small := payloadB(metrics...), payloadB(metricB{"a", 1, 0})
	route := sparkplugRoute()
	route.When = ".value == 1" // rows are not what counts here
	for payload, n := range map[string]int{large: 100, small: 80_000} {
		store := newBornStore()
		store.flat = true
		a := applier(t, Options{Births: store}, route)
		for i := range n {
			a.Reset()
			a.Apply(record(fmt.Sprintf("spBv1.0/g/NBIRTH/n%d", i), payload))
			if len(a.Failures) > 0 {
				t.Fatal(a.Failures[0].Err)
			}
			if a.Full() || i%1000 == 0 || i == n-1 {
				store.append(a.Births())
			}
			if p := a.births.pending; p > 2*fullLoad {
				t.Fatalf("%d bytes are to be stored", p)
			}
		}
		if b := a.births; b.bytes > knownBytes || b.used.Len() != len(a.routes[0].memory.known) || len(store.values) != 2*n {
			t.Errorf("%d bytes, %d of %d births in memory", b.bytes, b.used.Len(), len(store.values))
		}
		asked := store.asked
		if applier(t, Options{Births: store}, route); store.asked != asked {
			t.Errorf("%d births are read at the start", store.asked-asked)
		}
	}
}

// Nodes are forgotten with their devices some time after their death, those that
// live are not.
func TestDeadNodesAreForgotten(t *testing.T) {
	store := newBornStore()
	a := applier(t, Options{Births: store}, sparkplugRoute())
	send := func(message, where string) {
		a.Reset()
		a.Apply(record("spBv1.0/g/"+message+"/"+where, payloadB(metricB{"m", 1, 1})))
	}
	for i := range sweepNodes + 10 { // more than one look takes
		send("NBIRTH", fmt.Sprintf("alive%d", i))
	}
	for _, node := range []string{"young", "z", "z1", "again"} {
		send("NBIRTH", node)
		send("DBIRTH", node+"/d")
		send("NDEATH", node)
	}
	store.append(a.Births())
	ago := func(node string, d time.Duration) {
		store.values[sessionKey+"g/"+node] = asJSON(decode.Node{Died: time.Now().Add(-d).Unix()})
	}
	ago("z", ForgetAfter+time.Hour)
	ago("again", ForgetAfter+time.Hour)
	ago("young", ForgetAfter-time.Hour)
	store.values[sessionKey+"g/z1"] = `{"online":false,"seq":1}` // of before deaths had a time
	a = applier(t, Options{Births: store}, sparkplugRoute())
	send("NBIRTH", "again") // is in memory only when the nodes are looked at
	send("DBIRTH", "again/d")
	a.births.sweep(time.Now().Add(sweepEvery - time.Second))
	if len(a.routes[0].memory.dropped) != 1 { // the devices of again, by its birth
		t.Error("looked at before it is time")
	}
	for i := range 3 {
		a.births.sweep(time.Now().Add(time.Duration(i+1) * sweepEvery))
		store.append(a.Births())
	}
	for node, kept := range map[string]bool{"z": false, "z1": false, "young": true, "again": true, "alive0": true, "alive1009": true} {
		for _, key := range []string{sessionKey + "g/" + node, birthKey + "g/" + node, birthKey + "g/" + node + "/d"} {
			if _, ok := store.values[key]; ok != kept && !(strings.HasPrefix(node, "alive") && strings.HasSuffix(key, "/d")) {
				t.Errorf("%s is there: %v", key, ok)
			}
		}
	}
	send("NDATA", "z")
	if got := strings.TrimSpace(show(a)); got != "r: NDATA of g/z: no NBIRTH of g/z before it" {
		t.Error(got)
	}
}

// An error of the store is not one of the record.
func TestBirthsThatCannotBeRead(t *testing.T) {
	store := newBornStore()
	store.err = mqttetl.ErrUnavailable
	a := applier(t, Options{Births: store}, sparkplugRoute())
	a.Apply(record("spBv1.0/g/NDATA/n", payloadB(metricB{"m", 1, 1})))
	if err := a.Err(); !errors.Is(err, mqttetl.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	store = newBornStore()
	store.values[sessionKey+"g/n"] = "{"
	a = applier(t, Options{Births: store}, sparkplugRoute())
	a.Apply(record("spBv1.0/g/NDATA/n", payloadB(metricB{"m", 1, 1})))
	a.Apply(record("spBv1.0/g/NBIRTH/n", payloadB(metricB{"m", 1, 1})))
	a.Apply(record("spBv1.0/g/NDATA/n", payloadB(metricB{"m", 1, 1})))
	if a.Err() != nil || len(a.Failures) != 1 {
		t.Errorf("%v, %d failures", a.Err(), len(a.Failures))
	}
}

// A route is not weighed by the time for which the process had to wait: of a machine, or a
// store, that was busy.
func TestWaitingDoesNotCount(t *testing.T) {
	set, err := Compile([]Route{sparkplugRoute()})
	if err != nil {
		t.Fatal(err)
	}
	a, err := set.Applier(Options{Births: &bornStore{values: map[string]string{}, wait: 3 * slowRecord}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	rec := mqttetl.Record{Seq: sample, Time: 1, Source: "s", Message: mqttetl.Message{Topic: []byte("spBv1.0/g/NDATA/n"), Payload: []byte{0x18, 1}}}
	a.Apply(&rec)
	w := &a.routes[0]
	if took := w.stats.Time; took < slowRecord {
		t.Fatalf("the record took %v, want %v at least", took, slowRecord)
	}
	if sum := w.slow.sum + w.lazy.sum; sum >= slowRecord {
		t.Errorf("%v of it count", sum)
	}
}
