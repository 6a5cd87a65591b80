package batch

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/sink/store"
)

// sensorRecords are n records of 128 bytes of JSON on 100 topics.
func sensorRecords(n int) []mqttetl.Record {
	list := make([]mqttetl.Record, n)
	for i := range list {
		payload := fmt.Sprintf(`{"temperature":%d.%02d,"humidity":%d.5,"battery":%d,"linkquality":%d,"voltage":3%03d,"update":{"state":"idle"},"id":"%06d"}`,
			15+i%20, i%100, 30+i%60, i%100, 100+i%100, i%1000, i)
		payload += fmt.Sprintf("%*s", 128-len(payload), "")
		list[i] = mqttetl.Record{Time: 1_760_000_000_000_000_000 + int64(i)*1_000_000, Source: "plant",
			Message: mqttetl.Message{Topic: fmt.Appendf(nil, "factory/line%d/machine%d", i%10, i/10%10), Payload: []byte(payload), Flags: 1}}
	}
	return list
}

// sensorRoute takes three numbers from them.
func sensorRoute(name string) transform.Route {
	return transform.Route{Name: name, Topic: "factory/{line}/{machine}", Decode: "json", Table: name, Columns: []transform.Column{
		{Name: "temperature", Type: store.Real, Path: ".temperature"},
		{Name: "humidity", Type: store.Real, Path: ".humidity"},
		{Name: "battery", Type: store.Integer, Path: ".battery"},
	}}
}

// BenchmarkRoutes is the archive stage, 10,000 messages a transaction, without
// routes and with some. cpu-ns/msg is CPU time of the process, of which the
// ratios count.
func BenchmarkRoutes(b *testing.B) {
	plain := sensorRoute("sensors")
	jq := plain
	jq.Map = `{temperature, humidity, battery}`
	hundred := []transform.Route{plain}
	for i := range 99 {
		r := sensorRoute(fmt.Sprintf("other%d", i))
		r.Topic = fmt.Sprintf("factory/{line}/{machine}/part%d", i)
		hundred = append(hundred, r)
	}
	for _, way := range []struct {
		name   string
		routes []transform.Route
		change func(*Config)
	}{
		{"none", nil, func(*Config) {}},
		{"latest", nil, func(c *Config) { c.Latest = true }},
		{"columns", []transform.Route{plain}, func(*Config) {}},
		{"hundred", hundred, func(*Config) {}},
		{"jq", []transform.Route{jq}, func(*Config) {}},
		{"readings", nil, func(c *Config) { c.Readings = true }},
	} {
		b.Run(way.name, func(b *testing.B) {
			set, err := transform.Compile(way.routes)
			must(b, err)
			c := Config{Name: "a.db", Open: fileAt(filepath.Join(b.TempDir(), "a.db")), Routes: set}
			way.change(&c)
			benchArchive(b, New(c, nil), sensorRecords(10_000))
		})
	}
}

func benchArchive(b *testing.B, batcher *Batcher, records []mqttetl.Record) {
	a, err := batcher.Open(batcher.options())
	must(b, err)
	defer a.Close()
	r, err := batcher.router(a)
	must(b, err)
	if r != nil {
		defer r.Close()
	}
	b.ReportAllocs()
	begun, n := cpuTime(b), 0
	for b.Loop() {
		for i := range records {
			records[i].Seq = a.Cursor() + 1 + mqttetl.Seq(i)
			records[i].Time = 1_760_000_000_000_000_000 + int64(records[i].Seq)*1_000_000
		}
		for left := records; len(left) > 0; {
			done, err := batcher.append(context.Background(), a, r, left[:min(1000, len(left))], time.Now().Add(time.Hour))
			must(b, err)
			left = left[done:]
		}
		must(b, a.Commit())
		n += len(records)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(n), "ns/msg")
	if r != nil {
		r.Close() // its worker's time counts when it has ended
	}
	b.ReportMetric(float64(cpuTime(b)-begun)/float64(n), "cpu-ns/msg")
	if r != nil && len(r.Failures) > 0 {
		b.Fatal(r.Failures[0].Err)
	}
}

// cpuTime is that of this process and of those that it has started and that have ended.
func cpuTime(b *testing.B) (d time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		must(b, syscall.Getrusage(who, &u))
		d += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return d
}
