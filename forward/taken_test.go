package forward

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/embedded"
)

// A JetStream that gives no answer, or none that counts, is not one that says
// that no stream takes the subjects.
func TestTakenByNeedsAnAnswer(t *testing.T) {
	n, err := embedded.StartNATS(t.TempDir(), func(o *server.Options) { o.JetStream = false })
	if err != nil {
		t.Fatal(err)
	}
	defer n.Stop()
	cfg := Config{URL: n.URL(), SubjectPrefix: "mqtt", LogID: testLogID}
	if stream, err := TakenBy(t.Context(), cfg); stream != "" || err != nil {
		t.Errorf("JetStream is off: %q, %v", stream, err)
	}
	nc, err := nats.Connect(n.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var answer atomic.Value
	answer.Store("")
	sub, err := nc.Subscribe("$JS.API.STREAM.NAMES", func(m *nats.Msg) {
		if text := answer.Load().(string); text != "" {
			if err := m.Respond([]byte(text)); err != nil {
				t.Error(err)
			}
		}
	})
	if err := errors.Join(err, nc.Flush()); err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	for text, c := range map[string]struct {
		stream string
		want   error
	}{
		"":  {"", mqttetl.ErrUnavailable},
		"{": {"", mqttetl.ErrUnavailable},
		`{"error":{"code":503,"err_code":10008}}`: {"", mqttetl.ErrUnavailable},
		`{"error":{"code":503,"err_code":10039}}`: {"", nil},
		`{"error":{"code":503,"err_code":10076}}`: {"", nil},
		`{"streams":null}`:                        {"", nil},
		`{"streams":["A","B"]}`:                   {"A", nil},
	} {
		answer.Store(text)
		if stream, err := TakenBy(t.Context(), cfg); stream != c.stream || !errors.Is(err, c.want) {
			t.Errorf("%q: %q, %v", text, stream, err)
		}
	}
}
