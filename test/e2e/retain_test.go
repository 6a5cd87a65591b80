package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/archive"
	"github.com/mqttetl/mqttetl/test/servers"
	"github.com/mqttetl/mqttetl/test/service"
)

// heard subscribes to everything, calls during, and returns what has come by
// then, topic → payload and flags. With published, RETAIN is as it was
// published; without, it tells what the broker has kept (MQTT 5 §3.3.1.3).
func heard(w *world, published bool, during func()) map[string]string {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.broker.Addr)
	w.must(err)
	come := make(chan *paho.Publish, 100)
	client := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: 30 * time.Second,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			come <- r.Packet
			return true, nil
		}}})
	_, err = client.Connect(w.ctx, &paho.Connect{ClientID: "heard", CleanStart: true, KeepAlive: 30})
	w.must(err)
	_, err = client.Subscribe(w.ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "#", QoS: 2, RetainAsPublished: published}}})
	w.must(err)
	during()
	const end = "end" // behind what the subscription brings, and what during has had confirmed
	_, err = client.Publish(w.ctx, &paho.Publish{Topic: end, QoS: 2})
	w.must(err)
	all := map[string]string{}
	for {
		select {
		case p := <-come:
			if p.Topic == end {
				w.must(client.Disconnect(&paho.Disconnect{}))
				return all
			}
			all[p.Topic] += fmt.Sprintf("%q qos %d retain %t, ", p.Payload, p.QoS, p.Retain)
		case <-w.ctx.Done():
			w.t.Fatalf("the last message does not come, before it %v", all)
		}
	}
}

// What was recorded with RETAIN the broker keeps again, and tells who subscribes
// later; an empty payload clears it.
func TestReplayOfRetainedMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a, err := archive.Open(path, "00112233445566aa")
	if err != nil {
		t.Fatal(err)
	}
	recs := []mqttetl.Record{}
	for i, m := range []struct {
		topic, payload string
		flags          mqttetl.Flags
	}{
		{"e2e/qos 0", "2", mqttetl.FlagRetain}, // not confirmed: in front of what is
		{"e2e/replaced", "old", 2 | mqttetl.FlagRetain}, {"e2e/replaced", "new", 2 | mqttetl.FlagRetain},
		{"e2e/cleared", "old", 2 | mqttetl.FlagRetain}, {"e2e/cleared", "", 2 | mqttetl.FlagRetain},
		{"e2e/kept", "kept", 2 | mqttetl.FlagRetain}, {"e2e/kept", "not kept", 2},
		{"e2e/live", "1", 2}, {"e2e/binary", "\x00\xff", 1 | mqttetl.FlagRetain},
	} {
		recs = append(recs, mqttetl.Record{Seq: mqttetl.Seq(i + 1), Time: 1_700_000_000e9, Source: "s",
			Message: mqttetl.Message{Topic: []byte(m.topic), Payload: []byte(m.payload), Flags: m.flags}})
	}
	if err := errors.Join(a.Append(recs), a.Commit(), a.Close()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flag                 string
		published, keptAfter map[string]string
	}{
		{"--speed=max",
			map[string]string{
				"e2e/replaced": `"old" qos 2 retain true, "new" qos 2 retain true, `, "e2e/cleared": `"old" qos 2 retain true, "" qos 2 retain true, `,
				"e2e/kept": `"kept" qos 2 retain true, "not kept" qos 2 retain false, `, "e2e/live": `"1" qos 2 retain false, `,
				"e2e/binary": `"\x00\xff" qos 1 retain true, `, "e2e/qos 0": `"2" qos 0 retain true, `,
			},
			map[string]string{
				"e2e/replaced": `"new" qos 2 retain true, `, "e2e/kept": `"kept" qos 2 retain true, `,
				"e2e/binary": `"\x00\xff" qos 1 retain true, `, "e2e/qos 0": `"2" qos 0 retain true, `,
			}},
		{"--no-retain",
			map[string]string{
				"e2e/replaced": `"old" qos 2 retain false, "new" qos 2 retain false, `, "e2e/cleared": `"old" qos 2 retain false, "" qos 2 retain false, `,
				"e2e/kept": `"kept" qos 2 retain false, "not kept" qos 2 retain false, `, "e2e/live": `"1" qos 2 retain false, `,
				"e2e/binary": `"\x00\xff" qos 1 retain false, `, "e2e/qos 0": `"2" qos 0 retain false, `,
			},
			map[string]string{}},
	} {
		t.Run(c.flag, func(t *testing.T) { playRetained(t, path, c.flag, c.published, c.keptAfter) })
	}
}

// playRetained plays the archive to a new broker and compares what a subscriber
// hears during that, and what a later one does.
func playRetained(t *testing.T, path, flag string, published, kept map[string]string) {
	bin, err := product()
	if err != nil {
		t.Fatal(err)
	}
	broker, err := servers.StartMosquitto(t.TempDir(), brokerConf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Kill() })
	w := &world{Service: &service.Service{Bin: bin}, t: t, ctx: t.Context(), broker: broker}
	got := heard(w, true, func() { w.command("replay", "--archive", path, "--to", broker.URL, flag) })
	if !maps.Equal(got, published) {
		t.Errorf("published:\n%v, want\n%v", got, published)
	}
	if got = heard(w, false, func() {}); !maps.Equal(got, kept) {
		t.Errorf("who subscribes afterwards gets\n%v, want\n%v", got, kept)
	}
}
