package replay

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/internal/embedded"
)

// Trouble that stays ends the opening at once, not when patience ends.
func TestTroubleThatStays(t *testing.T) {
	before := patience
	patience = time.Hour // longer than any test lasts
	defer func() { patience = before }()
	with, err := embedded.StartNATS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer with.Stop()
	without, err := embedded.StartNATS(t.TempDir(), func(o *server.Options) { o.JetStream = false })
	if err != nil {
		t.Fatal(err)
	}
	defer without.Stop()
	nc, err := nats.Connect(with.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []jetstream.StreamConfig{{Name: "HAS", Subjects: []string{"mqtt.>"}}, {Name: "SILENT", Subjects: []string{"silent.>"}, NoAck: true}} {
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		url, stream, prefix string
		want                error
	}{
		"another stream has the subjects": {with.URL(), "OTHER", "mqtt", forward.ErrConfigured},
		"it has other subjects":           {with.URL(), "HAS", "else", forward.ErrConfigured},
		"it does not acknowledge":         {with.URL(), "SILENT", "silent", forward.ErrConfigured},
		"JetStream is off":                {without.URL(), "S", "mqtt", nats.ErrNoResponders},
	} {
		cfg := forward.Config{URL: c.url, Stream: c.stream, SubjectPrefix: c.prefix, LogID: "0123456789abcdef"}
		_, _, err := OpenJetStream(t.Context(), cfg, 0, func(mqttetl.Seq, int) {}, func(r *RefusedError) error { return r }, func(error) {})
		if !errors.Is(err, c.want) || !errors.Is(err, mqttetl.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
