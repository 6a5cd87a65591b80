package forward

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkPublish compares, on one server and with the same topics and
// payloads of 128 bytes, the forwarder with a bare asynchronous publisher that
// only sets Nats-Msg-Id:
//
//	go test -run - -bench Publish -benchtime 300000x -count 5 ./forward
func BenchmarkPublish(b *testing.B) {
	for name, start := range map[string]func(*testing.B) string{
		"in-process": func(b *testing.B) string { return startNATS(b).URL() },
		"process": func(b *testing.B) string {
			n, err := servers.StartNATSProcess(b.TempDir(), "")
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { n.Kill() })
			return n.URL()
		},
	} {
		b.Run("server="+name+"/by=bare", func(b *testing.B) { benchBare(b, start(b)) })
		b.Run("server="+name+"/by=forwarder", func(b *testing.B) { benchForwarder(b, start(b)) })
	}
}

var benchPayload = bytes.Repeat([]byte("x"), 128)

func benchTopics() (topics [100][]byte) {
	for i := range topics {
		topics[i] = fmt.Appendf(nil, "factory/line%d/temperature", i)
	}
	return topics
}

func benchBare(b *testing.B, url string) {
	nc, err := nats.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(windowMessages))
	if err != nil {
		b.Fatal(err)
	}
	createStream(b, js, func(*jetstream.StreamConfig) {})
	var subjects [100]string
	for i, t := range benchTopics() {
		subjects[i], _ = natsmsg.Subject("mqtt", t)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		m := &nats.Msg{Subject: subjects[i%100], Data: benchPayload, Header: nats.Header{natsmsg.HeaderMsgID: {fmt.Sprintf("%s-%d", testLogID, i+1)}}}
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// endless is a Log of n records that all stand in memory.
type endless struct {
	n, at mqttetl.Seq
	buf   []mqttetl.Record
	tops  [100][]byte
	done  chan struct{}
}

func (l *endless) Stored() mqttetl.Seq { return 0 }

func (l *endless) Seek(after mqttetl.Seq) (mqttetl.Seq, error) {
	l.at = after + 1
	return l.at, nil
}

func (l *endless) Next(ctx context.Context, max int) ([]mqttetl.Record, error) {
	if l.at > l.n {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	l.buf = l.buf[:0]
	for ; len(l.buf) < max && l.at <= l.n; l.at++ {
		l.buf = append(l.buf, mqttetl.Record{Seq: l.at, Time: 1_700_000_000_123_456_789 + int64(l.at), Source: "default",
			Message: mqttetl.Message{Topic: l.tops[l.at%100], Payload: benchPayload, Flags: 1}})
	}
	return l.buf, nil
}

func (l *endless) Commit(upTo mqttetl.Seq) {
	if upTo == l.n {
		close(l.done)
	}
}

func (l *endless) DeadLetter(mqttetl.DeadLetter) { panic("dead letter") }

func benchForwarder(b *testing.B, url string) {
	l := &endless{n: mqttetl.Seq(b.N), tops: benchTopics(), done: make(chan struct{})}
	_, js := admin(b, url)
	createStream(b, js, func(*jetstream.StreamConfig) {})
	b.ReportAllocs()
	b.ResetTimer()
	forward(b, url, l)
	<-l.done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

func BenchmarkEncode(b *testing.B) {
	c := natsmsg.Encoder{Prefix: "mqtt", LogID: testLogID, Tag: natsmsg.NewTagger(testKey)}
	rec := record(1)
	b.ReportAllocs()
	for b.Loop() {
		c.EncodeAfter(&rec, natsmsg.Link{Record: 1})
	}
}
