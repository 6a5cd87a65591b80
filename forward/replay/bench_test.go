package replay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/test/servers"
)

// endless is a Source of n records that all stand in memory.
type endless struct {
	n, at int
	step  int64 // between two, recorded, in nanoseconds
}

var benchPayload = bytes.Repeat([]byte("x"), 128)

var benchTopics = func() (topics [100][]byte) {
	for i := range topics {
		topics[i] = fmt.Appendf(nil, "factory/line%d/temperature", i)
	}
	return topics
}()

func (s *endless) Next(context.Context) ([]mqttetl.Record, error) {
	if s.at == s.n {
		return nil, io.EOF
	}
	recs := make([]mqttetl.Record, min(4096, s.n-s.at))
	for i := range recs {
		s.at++
		recs[i] = mqttetl.Record{Seq: mqttetl.Seq(s.at), Time: 1_700_000_000e9 + int64(s.at)*s.step, Source: "default",
			Message: mqttetl.Message{Topic: benchTopics[s.at%100], Payload: benchPayload, Flags: 1}}
	}
	return recs, nil
}

func playerOf(s *endless, pace Pace) *Player {
	return NewPlayer(Config{Pace: pace, Open: func(mqttetl.Seq, uint64) Source { return s }})
}

// BenchmarkCore compares a replay to core NATS with bare publishing of the same
// subjects and payloads, to a nats-server of its own process:
//
//	go test -run - -bench Core -benchtime 500000x -count 5 ./forward/replay
func BenchmarkCore(b *testing.B) {
	server, err := servers.StartNATSProcess(b.TempDir(), "")
	if err != nil {
		b.Fatal(err)
	}
	defer server.Kill()
	b.Run("by=bare", func(b *testing.B) {
		nc, err := nats.Connect(server.URL())
		if err != nil {
			b.Fatal(err)
		}
		defer nc.Close()
		var subjects [100]string
		for i, t := range benchTopics {
			subjects[i], _ = natsmsg.Subject("mqtt", t)
		}
		b.ResetTimer()
		for i := range b.N {
			if err := nc.Publish(subjects[i%100], benchPayload); err != nil {
				b.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	})
	b.Run("by=replay", func(b *testing.B) {
		p := playerOf(&endless{n: b.N}, Pace{})
		to, err := OpenCore(b.Context(), forward.Config{URL: server.URL(), SubjectPrefix: "mqtt", LogID: "0123456789abcdef"}, p.Confirmed, func(err error) { b.Error(err) })
		if err != nil {
			b.Fatal(err)
		}
		defer to.Close()
		b.ResetTimer()
		if err := p.Run(b.Context(), to); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	})
}

// noting notes when records are sent.
type noting struct {
	at        []time.Time
	confirmed Confirm
}

func (n *noting) Send(_ context.Context, r *mqttetl.Record) error {
	n.at = append(n.at, time.Now())
	n.confirmed(r.Seq, 1)
	return nil
}
func (n *noting) Flush(context.Context) error { return nil }
func (n *noting) Drain(context.Context) error { return nil }
func (n *noting) Close() error                { return nil }

// BenchmarkAccuracy plays a recording of 10,000 messages a second as recorded
// and reports how far they are from their offsets.
func BenchmarkAccuracy(b *testing.B) {
	p := playerOf(&endless{n: b.N, step: 100_000}, Pace{Speed: 1})
	to := &noting{confirmed: p.Confirmed}
	if err := p.Run(b.Context(), to); err != nil {
		b.Fatal(err)
	}
	var off []time.Duration
	for i, at := range to.at {
		off = append(off, (at.Sub(to.at[0]) - time.Duration(i)*100*time.Microsecond).Abs())
	}
	slices.Sort(off)
	b.ReportMetric(float64(off[len(off)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(off[len(off)*99/100].Microseconds()), "µs-p99")
}
