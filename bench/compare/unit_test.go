package compare

import (
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"
)

func TestHeaders(t *testing.T) {
	for _, emqtt := range []bool{false, true} {
		m := maker{trial: 513, publisher: 65535, emqtt: emqtt, next: 1<<32 - 1}
		at := time.Now().UnixNano()
		b := filler(16)
		m.stamp(b, at)
		want := mark{513, 65535, 1<<32 - 1, at}
		got, ok := readMark(b)
		if emqtt {
			want.at -= at % int64(time.Millisecond)
			got, ok = readEmqttMark([]byte("mqttetl-bench/abc/513/65535/7"), b)
		}
		if !ok || got != want {
			t.Errorf("emqtt %v: %+v, want %+v", emqtt, got, want)
		}
	}
	if _, ok := readMark(make([]byte, 15)); ok {
		t.Error("15 bytes are a header")
	}
	for _, topic := range []string{"", "a", "1/2", "x/1/2/", "x/1//3", "x1/2/3"} {
		if m, ok := readEmqttMark([]byte(topic), make([]byte, 16)); ok {
			t.Errorf("%q: %+v", topic, m)
		}
	}
}

// Random loss, duplicates and swaps are counted as a model counts them.
func TestLedgerAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		topics := uint32(1 + r.IntN(3))
		l := &ledger{trial: 1, topics: topics, from: make([]track, 1), latencies: newRecorder()}
		l.from[0].after = make([]uint32, topics)
		var arrivals []uint32
		for n := range uint32(300) {
			switch r.IntN(20) {
			case 0: // lost
			case 1:
				arrivals = append(arrivals, n, n)
			default:
				arrivals = append(arrivals, n)
			}
		}
		for range 10 {
			i, j := r.IntN(len(arrivals)), r.IntN(len(arrivals))
			arrivals[i], arrivals[j] = arrivals[j], arrivals[i]
		}
		seen := map[uint32]bool{}
		var duplicated, reordered uint64
		for i, n := range arrivals {
			if seen[n] {
				duplicated++
			} else if slices.ContainsFunc(arrivals[:i], func(v uint32) bool { return v%topics == n%topics && v > n }) {
				reordered++
			}
			seen[n] = true
			b := make([]byte, headerSize)
			(&maker{trial: 1, next: n}).stamp(b, 0)
			if !l.take(nil, b, 1) {
				t.Fatal("a message of this trial is foreign")
			}
		}
		if l.distinct != uint64(len(seen)) || l.duplicated != duplicated || l.reordered != reordered {
			t.Fatalf("seed %d: %d distinct, %d duplicated, %d reordered; want %d, %d, %d", seed, l.distinct, l.duplicated, l.reordered, len(seen), duplicated, reordered)
		}
	}
}

func TestForeignMessages(t *testing.T) {
	l := &ledger{trial: 1, first: 4, topics: 1, from: []track{{after: []uint32{0}}}, latencies: newRecorder()}
	for _, m := range []maker{{trial: 2, publisher: 4}, {trial: 1, publisher: 3}, {trial: 1, publisher: 5}} {
		b := make([]byte, headerSize)
		m.stamp(b, 0)
		if l.take(nil, b, 0) {
			t.Errorf("%+v is ours", m)
		}
	}
	if l.take(nil, []byte("short"), 0) || l.foreign != 4 || l.distinct != 0 {
		t.Errorf("%d foreign, %d distinct", l.foreign, l.distinct)
	}
}

func TestFileDurability(t *testing.T) {
	with := func(version string, interval time.Duration, always bool) *varz {
		v := &varz{Version: version}
		v.JetStream.Config = &struct {
			SyncInterval time.Duration `json:"sync_interval"`
			SyncAlways   bool          `json:"sync_always"`
		}{interval, always}
		return v
	}
	for _, v := range []struct {
		varz  *varz
		class Class
		text  string
	}{
		{with("2.15.2", 2*time.Minute, true), Synced, "synced before the acknowledgement"},
		{with("2.15.2", 2*time.Minute, false), Written, "written, not synced (sync_interval 2m)"},
		{with("2.10.0", time.Hour, false), Written, "written, not synced (sync_interval 1h)"},
		{with("2.10.0", 90*time.Second, false), Written, "written, not synced (sync_interval 1m30s)"},
		{with("2.9.10", 0, false), Written, "written, not synced (sync_interval 2m)"},
		{with("2.11.0", 0, false), Unknown, "unknown whether synced"},
		{with("3.0.0", 0, false), Unknown, "unknown whether synced"},
		{&varz{Version: "2.15.2"}, Unknown, "unknown whether synced"},
	} {
		if d := fileDurability(v.varz); d.Class != v.class || d.Text != v.text || d.From == "" {
			t.Errorf("%+v: %+v", v.varz, d)
		}
	}
}

func TestMarkOfAStreamHasNoPassword(t *testing.T) {
	w := &world{owner: newOwner("r")}
	w.owner.MQTT = "mqtt://me:secret@host"
	o, ok := readOwner(w.mark())
	if !ok || o.MQTT != "" || o.Run != "r" || o.gone() {
		t.Errorf("%q", w.mark())
	}
	if o, _ := readOwner(w.owner.String()); o.MQTT != w.owner.MQTT {
		t.Errorf("the owner's file has lost the broker: %+v", o)
	}
}

func TestPlan(t *testing.T) {
	c := Config{
		Duration: 2 * time.Second, Sizes: []int{16, 128}, Clients: []int{1, 10}, FanIn: []int{1, 5}, FanOut: []int{7}, Inflight: []int{1, 20},
		Topics: []int{1}, Rates: []float64{100}, Match: regexp.MustCompile(`^(mqtt/qos[01]|jetstream/file/sync)$|^null/`),
	}
	ids := map[string]*Case{}
	for _, v := range c.plan() {
		if ids[v.ID] != nil {
			t.Errorf("%s twice", v.ID)
		}
		ids[v.ID] = v
	}
	if want := 2*(2*4+2*4*2) + 2*4 + 2*5; len(ids) != want { // QoS 0 and 1 in both modes, JetStream, null servers
		t.Errorf("%d cases, want %d", len(ids), want)
	}
	for id, want := range map[string]Case{
		"mqtt/qos1/size=16/inflight=20/fan=10-10":        {Size: 16, Inflight: 20, Publishers: 10, Subscribers: 10, Fan: "10→10", Duration: 2 * time.Second},
		"mqtt/qos0/size=128/fan=5-1/rate=100":            {Size: 128, Publishers: 5, Subscribers: 1, Fan: "5→1", Duration: time.Second, Offered: 100},
		"jetstream/file/sync/size=128/fan=1-7":           {Size: 128, Inflight: 1, Publishers: 1, Subscribers: 7, Fan: "1→7", Duration: 2 * time.Second},
		"null/mqtt/qos1/size=16":                         {Size: 16, Inflight: 20, Publishers: 1, Fan: "1→0", Duration: time.Second},
		"mqtt/qos1/size=128/inflight=1/fan=1-1/rate=100": {Size: 128, Inflight: 1, Publishers: 1, Subscribers: 1, Fan: "1→1", Duration: time.Second, Offered: 100},
	} {
		v := ids[id]
		if v == nil {
			t.Errorf("no %s", id)
			continue
		}
		if v.Size != want.Size || v.Inflight != want.Inflight || v.Publishers != want.Publishers || v.Subscribers != want.Subscribers ||
			v.Fan != want.Fan || v.Duration != want.Duration || v.Offered != want.Offered {
			t.Errorf("%s: %+v", id, v)
		}
	}
	if n := (&Config{Duration: 1, Sizes: []int{128}, Clients: []int{1}, Inflight: []int{1}, Topics: []int{1}, NATS: "nats://given"}).Cases(); n != 9+5+4 {
		t.Errorf("%d cases with a given server", n)
	}
}

func TestSummary(t *testing.T) {
	rounds := func(rates ...float64) (r []Round) {
		for i, v := range rates {
			r = append(r, Round{Round: i + 1, PublishRate: v, Agrees: true, Lost: uint64(i)})
		}
		return r
	}
	memory := Durability{Class: InMemory, Text: "acknowledged in memory"}
	a := &Case{ID: "a", Durability: memory, Rounds: rounds(100, 200, 50, 400)}
	b := &Case{ID: "b", Durability: memory, Rounds: rounds(50, 400, 75)}
	other := &Case{ID: "c", Durability: Durability{Class: Written}, Rounds: rounds(1)}
	w := &world{report: &Report{}, cfg: Config{Rounds: 4}}
	w.summarize([]*Case{a, b, other})
	got := w.report.Cases
	if s := got[0].Summary.PublishRate; s != (Spread{Median: 150, Low: 50, High: 400, N: 4}) || got[0].Summary.Base != "" || got[0].Incomplete {
		t.Errorf("%+v", got[0].Summary)
	}
	if s := got[1].Summary; s.Base != "a" || s.Ratio != (Spread{Median: 1.5, Low: 0.5, High: 2, N: 3}) || !got[1].Incomplete || s.Lost != 3 || !got[1].Loss {
		t.Errorf("%+v", s)
	}
	if s := got[2].Summary; s.Base != "" || s.Ratio.N != 0 || got[2].Loss {
		t.Errorf("another durability: %+v", s)
	}
}

// BenchmarkInstrument compares our publishers with a bare nats.go publisher and
// with mosquitto_pub -l, at the same servers, in turn.
func BenchmarkInstrument(b *testing.B) {
	if mosquittoPub() == "" {
		b.Fatal("mosquitto_pub is not installed: apt-get install mosquitto-clients")
	}
	cfg := Config{
		Self: os.Args[0], Dir: b.TempDir(), Duration: 2 * time.Second, Rounds: 9,
		Sizes: []int{128}, Clients: []int{1}, Inflight: []int{1000}, Topics: []int{1}, Match: regexp.MustCompile("^" + referenceRoot),
	}
	for b.Loop() {
		r, err := Run(b.Context(), cfg)
		if err == nil {
			err = r.Err()
		}
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range r.Cases {
			b.ReportMetric(c.Summary.PublishRate.Median, c.ID[len(referenceRoot):]+"-msg/s")
			if c.Summary.Ratio.N > 0 {
				b.ReportMetric(1/c.Summary.Ratio.Median, "ours-by-"+c.ID[len(referenceRoot):])
			}
		}
	}
}
