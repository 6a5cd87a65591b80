package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/replay"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/sink/history"
	"github.com/mqttetl/mqttetl/sink/wal"
	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

// kinds are messages of every kind of payload and properties.
func kinds(n int) (recs []mqttetl.Record) {
	payloads := [][]byte{nil, []byte("21.5"), []byte(`{"v":[1,2,{"x":"ü"}]}`), {0}, []byte("a\x00b"), {0xff, 0xfe, 0x80}, []byte("21 °C 🌡\n\t\"\\"),
		bytes.Repeat([]byte("long "), 2000), bytes.Repeat([]byte{0, 1, 2, 255}, 1500), []byte(" ")}
	users := []byte{0x26, 0, 4, 'u', 'n', 'i', 't', 0, 1, 'C', 0x26, 0, 4, 'u', 'n', 'i', 't', 0, 1, 'K'}
	properties := []mqttetl.Properties{nil, nil, users, {1, 1, 3, 0, 4, 't', 'e', 'x', 't'}, {8, 0, 3, 'r', '/', 't', 9, 0, 3, 0, 255, 'x'}}
	for i := range n {
		r := mqttetl.Record{Seq: mqttetl.Seq(i + 1), Message: mqttetl.Message{
			Topic: fmt.Appendf(nil, "e2e/%s/%d", []string{"a", "ä b", "c.d", "", "%41"}[i%5], i%40), Payload: payloads[i%len(payloads)],
			Properties: properties[i/3%len(properties)], Flags: mqttetl.Flags(i % 3)}}
		if i%7 == 0 && i%40 > 30 {
			r.Flags |= mqttetl.FlagRetain
		}
		if i%10 == 1 {
			r.Payload = fmt.Append(nil, i)
		}
		recs = append(recs, r)
	}
	return recs
}

// recordAll sends messages through a broker into a service, and waits until they
// are everywhere.
func recordAll(w *world, recs []mqttetl.Record) {
	w.t.Helper()
	confirmed := 0
	fail := func(err error) { w.t.Error(err) }
	to, err := replay.OpenMQTT(w.ctx, replay.MQTTConfig{URL: w.broker.URL, QoS: -1}, func(_ mqttetl.Seq, n int) { confirmed += n },
		func(r *replay.RefusedError) error { return r }, fail)
	w.must(err)
	for i := range recs {
		w.must(to.Send(w.ctx, &recs[i]))
	}
	w.must(to.Drain(w.ctx))
	w.must(to.Close())
	if confirmed != len(recs) {
		w.t.Fatalf("%d of %d messages confirmed", confirmed, len(recs))
	}
	_, err = w.Drained(w.ctx, len(recs))
	w.must(err)
}

// all reads the records of a service.
func all(w *world, s *service.Service) (recs []mqttetl.Record) {
	w.t.Helper()
	h, err := history.Open(history.Places{Archive: s.Archive(), LogDir: s.LogDir()})
	w.must(err)
	defer h.Close()
	for c := h.Select(mqttetl.Selection{}); ; {
		some, err := c.Next(w.ctx)
		if errors.Is(err, io.EOF) {
			return recs
		}
		w.must(err)
		recs = append(recs, some...)
	}
}

// sameMessages compares what a replay through a broker must not change. Between
// QoS levels a broker promises no order (MQTT 5 §4.6): Mosquitto delivers QoS 2
// when PUBREL has come, and QoS 0 past what waits for the receive maximum.
func sameMessages(t testing.TB, got, want []mqttetl.Record) {
	t.Helper()
	left := map[string]int{}
	key := func(r *mqttetl.Record) string {
		return fmt.Sprintf("%q %x %x flags %d", r.Topic, r.Payload, r.Properties, r.Flags)
	}
	for i := range want {
		left[key(&want[i])]++
	}
	for i := range got {
		k := key(&got[i])
		if left[k]--; left[k] < 0 {
			t.Fatalf("message %d is one too many: %.200s", i+1, k)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
}

// sameSequence compares in order.
func sameSequence(t testing.TB, got, want []mqttetl.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := &got[i], &want[i]
		if !bytes.Equal(g.Topic, w.Topic) || !bytes.Equal(g.Payload, w.Payload) || !bytes.Equal(g.Properties, w.Properties) || g.Flags != w.Flags {
			t.Fatalf("message %d: %q %.40q %x flags %d, want %q %.40q %x flags %d", i+1, g.Topic, g.Payload, g.Properties, g.Flags, w.Topic, w.Payload, w.Properties, w.Flags)
		}
	}
}

// command runs the program and returns what it printed.
func (w *world) command(args ...string) (stdout, stderr string) {
	w.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(w.ctx, w.Bin, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("mqttetl %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String()
}

func TestRecordedMessagesArePlayedAgain(t *testing.T) {
	w := productWorld(t, service.Settings{QoS: 2})
	const n = 50_000
	sent := kinds(n)
	recordAll(w, sent)
	want := all(w, w.Service)
	t.Run("recorded as sent", func(t *testing.T) { sameMessages(t, want, sent) })
	t.Run("to MQTT", func(t *testing.T) { sameMessages(t, playToMQTT(t, w), want) })
	t.Run("to MQTT with one QoS", func(t *testing.T) {
		ordered := slices.Clone(want)
		for i := range ordered {
			ordered[i].Flags = ordered[i].Flags&^3 | 1
		}
		sameSequence(t, playToMQTT(t, w, "--qos", "1"), ordered)
	})
	t.Run("to JetStream", func(t *testing.T) { playToStream(w, want) })
	t.Run("export, import, export", func(t *testing.T) {
		first := filepath.Join(t.TempDir(), "first.ndjson.zst")
		w.command("export", "-c", w.Config(), "--compress", "zstd", "--out", first)
		fresh, err := service.New(w.Bin, t.TempDir(), service.Settings{Broker: w.broker.URL})
		w.must(err)
		w.command("import", "-c", fresh.Config(), first)
		before, _ := w.command("export", "-c", w.Config())
		after, _ := w.command("export", "-c", fresh.Config())
		if before != after || strings.Count(after, "\n") != n {
			t.Errorf("%d and %d lines differ", strings.Count(before, "\n"), strings.Count(after, "\n"))
		}
		csv, _ := w.command("export", "-c", fresh.Config(), "--format", "csv")
		third, err := service.New(w.Bin, t.TempDir(), service.Settings{Broker: w.broker.URL})
		w.must(err)
		file := filepath.Join(t.TempDir(), "all.csv")
		w.must(os.WriteFile(file, []byte(csv), 0o600))
		w.command("import", "-c", third.Config(), file)
		if again, _ := w.command("export", "-c", third.Config()); again != before {
			t.Error("through CSV the export differs")
		}
	})
}

// playToMQTT plays to a second broker, which a second service records.
func playToMQTT(t *testing.T, w *world, how ...string) []mqttetl.Record {
	t.Helper()
	other := newWorld(t, w.Bin, service.Settings{QoS: 2})
	other.start()
	_, account := w.command(append([]string{"replay", "-c", w.Config(), "--to", other.broker.URL, "--speed", "max"}, how...)...)
	if !strings.Contains(account, "selected 50000 = sent 50000, confirmed 50000") {
		t.Errorf("account: %s", account)
	}
	_, err := other.Drained(other.ctx, 50_000)
	w.must(err)
	return all(w, other.Service)
}

// playToStream plays to a stream and compares it with the forwarder's.
func playToStream(w *world, want []mqttetl.Record) {
	w.t.Helper()
	for range 2 { // the second time everything is there already
		w.command("replay", "-c", w.Config(), "--to", w.nats.URL(), "--stream", "AGAIN", "--subject-prefix", "again", "--speed", "max",
			"--resume", filepath.Join(w.Dir, "again.pos"))
	}
	again, forwarded := streamed(w, "AGAIN"), streamed(w, "E2E")
	if len(again) != len(want) || len(forwarded) != len(want) {
		w.t.Fatalf("%d messages played, %d forwarded, want %d", len(again), len(forwarded), len(want))
	}
	for i, m := range again {
		f := forwarded[i]
		if m.Subject() != "again"+strings.TrimPrefix(f.Subject(), "mqtt") || !bytes.Equal(m.Data(), f.Data()) {
			w.t.Fatalf("message %d: %s %.40q, forwarded was %s %.40q", i+1, m.Subject(), m.Data(), f.Subject(), f.Data())
		}
		at, err := natsmsg.ParseTime(m.Headers().Get(natsmsg.HeaderTime))
		if err != nil || !at.Equal(want[i].When()) {
			w.t.Fatalf("message %d: time %v, %v, want %v", i+1, at, err, want[i].When())
		}
		for _, chain := range []string{jetstream.ExpectedLastSeqHeader, jetstream.ExpectedLastMsgIDHeader, "Mqtt-Tag"} { // of their place in their stream
			m.Headers().Del(chain)
			f.Headers().Del(chain)
		}
		if got, want := fmt.Sprint(m.Headers()), fmt.Sprint(f.Headers()); got != want {
			w.t.Fatalf("message %d: headers %s, forwarded was %s", i+1, got, want)
		}
	}
}

// streamed reads every message of a stream with its headers.
func streamed(w *world, name string) (all []jetstream.Msg) {
	w.t.Helper()
	nc, err := nats.Connect(w.nats.URL())
	w.must(err)
	w.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	w.must(err)
	s, err := js.Stream(w.ctx, name)
	w.must(err)
	c, err := s.OrderedConsumer(w.ctx, jetstream.OrderedConsumerConfig{})
	w.must(err)
	it, err := c.Messages()
	w.must(err)
	defer it.Stop()
	for uint64(len(all)) < s.CachedInfo().State.Msgs {
		m, err := it.Next(jetstream.NextContext(w.ctx))
		w.must(err)
		all = append(all, m)
	}
	return all
}

// fill makes an archive of numbered messages without a service. It returns them,
// payload → topic.
func fill(t testing.TB, path string, n int) (messages map[string]string) {
	t.Helper()
	messages = map[string]string{}
	a, err := archive.Open(path, "00112233445566aa")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var recs []mqttetl.Record
	for i := range n {
		topic, payload := fmt.Sprintf("e2e/%d", i%9), fmt.Sprint(i+1)
		messages[payload] = topic
		recs = append(recs, mqttetl.Record{Seq: mqttetl.Seq(i + 1), Time: 1_700_000_000e9 + int64(i)*1e6, Source: "s",
			Message: mqttetl.Message{Topic: []byte(topic), Payload: []byte(payload), Flags: 1}})
	}
	if err := errors.Join(a.Append(recs), a.Commit()); err != nil {
		t.Fatal(err)
	}
	return messages
}

// killed runs the command until it has been killed so many times and has then
// come to its end. Each time it is killed when reached has moved on by some.
// slow is added to the command that is killed, so that it has not ended before
// that also where the kill comes late, and fast to the last one.
func killed(t testing.TB, ctx context.Context, bin string, times int, reached func() uint64, step int, slow, fast []string, args ...string) {
	t.Helper()
	for round := 0; ; round++ {
		var out bytes.Buffer
		pace := slow
		if round == times {
			pace = fast
		}
		cmd := exec.CommandContext(ctx, bin, slices.Concat(args, pace)...)
		cmd.Stderr, cmd.Stdout = &out, &out
		begin := reached()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		enough := begin + uint64(step/2+rand.IntN(step))
		tick := time.NewTicker(time.Millisecond)
		for end := false; !end; {
			select {
			case <-tick.C:
				if round < times && reached() >= enough {
					cmd.Process.Kill()
					<-ended
					end = true
				}
			case err := <-ended:
				if err != nil {
					t.Fatalf("round %d: %v\n%s", round, err, out.String())
				}
				if round < times {
					t.Fatalf("it ended in round %d, before it was killed %d times\n%s", round, times, out.String())
				}
				tick.Stop()
				return
			}
		}
		tick.Stop()
	}
}

const (
	kills   = 10
	between = 1500    // records, about
	played  = 100_000 // of which the kills leave the most to the last run
)

// paced is slow and fast of killed: with the former, what is played takes ten
// seconds, of which the kills need one or two.
var paced = [2][]string{{"--rate", "10000"}, {"--speed", "max"}}

func TestKilledReplaysGoOn(t *testing.T) {
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.db")
	messages := fill(t, path, played)
	t.Run("to JetStream", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		server, err := servers.StartNATSProcess(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer server.Kill()
		position := filepath.Join(t.TempDir(), "position")
		killed(t, ctx, bin, kills, func() uint64 { return recordedPosition(position) }, between, paced[0], paced[1],
			"replay", "--archive", path, "--to", server.URL(), "--stream", "S", "--resume", position)
		got, err := ReadStream(ctx, server.URL(), "S")
		if err != nil || len(got) != played {
			t.Fatalf("%d messages, %v", len(got), err)
		}
		for i, m := range got {
			if m.ID != fmt.Sprintf("00112233445566aa-%d", i+1) || m.Payload != fmt.Sprint(i+1) {
				t.Fatalf("message %d: %s %s", i+1, m.ID, m.Payload)
			}
		}
	})
	t.Run("to MQTT", func(t *testing.T) {
		w := newWorld(t, bin, service.Settings{QoS: 1})
		w.start()
		position := filepath.Join(t.TempDir(), "position")
		killed(t, w.ctx, bin, kills, func() uint64 { return recordedPosition(position) }, between, paced[0], paced[1],
			"replay", "--archive", path, "--to", w.broker.URL, "--resume", position)
		w.must(Delivered(w.ctx, w.Service, messages))
		checkPlayed(t, all(w, w.Service))
	})
}

// recordedPosition reads the newest record number of a resume file, 0 if there
// is none.
func recordedPosition(path string) (seq uint64) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(content), "\n")[1:] {
		var number, pass, at uint64
		if n, _ := fmt.Sscanf(line, "%d pass %d seq %d", &number, &pass, &at); n == 3 {
			seq = max(seq, at)
		}
	}
	return seq
}

// checkPlayed: every number in order; only what was in flight at a kill twice.
func checkPlayed(t *testing.T, recs []mqttetl.Record) {
	t.Helper()
	next, repeated := 1, 0
	for _, r := range recs {
		var n int
		fmt.Sscan(string(r.Payload), &n)
		switch {
		case n == next:
			next++
		case n < next:
			repeated++
		default:
			t.Fatalf("message %d after %d", n, next-1)
		}
	}
	const window = 1000 // max_inflight_messages of brokerConf, which Mosquitto tells publishers
	if next != played+1 || repeated > kills*window {
		t.Errorf("%d messages, %d of them twice", next-1, repeated)
	}
	t.Logf("%d messages came twice in %d kills", repeated, kills)
}

func TestKilledImportsGoOn(t *testing.T) {
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	svc, err := service.New(bin, t.TempDir(), service.Settings{Broker: "mqtt://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	const lines = 800_000
	var text bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&text, `{"topic":"e2e/%d","payload":"%d","time":"2026-01-02T03:04:05.%09dZ","source":"%s"}`+"\n", i%9, i+1, i, []string{"a", "b"}[i/1000%2])
	}
	file := filepath.Join(t.TempDir(), "recording.ndjson")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	reached := func() uint64 {
		info, err := wal.Inspect(svc.LogDir())
		if err != nil {
			return 0
		}
		return uint64(info.Last)
	}
	const kills = 2 // on a busy machine 300,000 lines pass before it is seen that there were enough
	killed(t, ctx, bin, kills, reached, 8_000, nil, nil, "import", "-c", svc.Config(), "--resume", file)
	w := &world{Service: svc, t: t, ctx: ctx}
	recs := all(w, svc)
	if len(recs) != lines {
		t.Fatalf("%d records of %d lines", len(recs), lines)
	}
	for i := range recs {
		if string(recs[i].Payload) != fmt.Sprint(i+1) {
			t.Fatalf("record %d is line %s", i+1, recs[i].Payload)
		}
	}
	w.must(svc.Verify(ctx))
}
