package replay

import (
	"context"
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
	"github.com/mqttetl/mqttetl/test/servers"
)

// A replay into a stream with three replicas is killed while another writer's
// message stands in the place of a record, and goes on with that one. A replica
// that was away holds the same as the others.
func TestReplayIntoReplicas(t *testing.T) {
	c, err := servers.StartNATSCluster(t.Context(), t.TempDir(), 3, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	nc, err := nats.Connect(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"mqtt.>"}, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	const id = "0123456789abcdef"
	key := []byte("0123456789abcdef")
	for i, n := range []int{2, 4, 0, 8} { // the selection has the even numbers
		m := nats.NewMsg("mqtt.x")
		if n != 0 {
			m.Header.Set("Nats-Msg-Id", fmt.Sprintf("%s-%d", id, n))
			m.Header.Set(natsmsg.HeaderTag, tag(t, key, n, i+1))
		}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	away := c.Node(s.CachedInfo().Cluster.Replicas[0].Name)
	if err := away.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg := forward.Config{URL: c.URL(), Stream: "S", SubjectPrefix: "mqtt", LogID: id, Key: key}
	j, end, err := OpenJetStream(t.Context(), cfg, 0, func(mqttetl.Seq, int) {}, func(r *RefusedError) error { return r }, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	for n := int(end) + 1; n <= 2000; n++ {
		if n%2 == 0 {
			r := mqttetl.Record{Seq: mqttetl.Seq(n), Message: mqttetl.Message{Topic: []byte("x"), Payload: fmt.Appendf(nil, "%d", n)}}
			if err := j.Send(t.Context(), &r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := away.Restart(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all, err := c.Equal(ctx, "S")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range all {
		h := nats.Header{}
		if m.Header != "" {
			if h, err = nats.DecodeHeadersMsg([]byte(m.Header)); err != nil {
				t.Fatal(err)
			}
		}
		got = append(got, h.Get("Nats-Msg-Id")+h.Get(natsmsg.HeaderLate))
	}
	want := []string{id + "-2", id + "-4", "", id + "-8", id + "-68", id + "-10"} // 6, after 8
	if len(got) != 1001 || fmt.Sprint(got[:6]) != fmt.Sprint(want) {
		t.Errorf("%d messages, %q; want 1001, %q", len(got), got[:min(6, len(got))], want)
	}
}

// tag is what proves that record n stands at that place of the stream by right.
func tag(t *testing.T, key []byte, n, place int) string {
	t.Helper()
	c, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(n)), uint64(place))
	c.Encrypt(b, b)
	return hex.EncodeToString(b[:8])
}
