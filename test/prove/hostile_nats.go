package prove

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl/internal/backoff"
)

// forgedIDs: somebody who may publish to the stream's subjects puts messages there
// with the ids of records: copies of headers, and such as no record has.
var forgedIDs = attack{
	name: "forged and copied Nats-Msg-Ids in the stream",
	run: func(ctx context.Context, h *hostile) error {
		nc, err := nats.Connect(h.nats.URL())
		if err != nil {
			return err
		}
		defer nc.Close()
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		for range 20 {
			if err := forge(ctx, h, js); err != nil {
				return err
			}
			backoff.Pause(ctx, 100*time.Millisecond)
		}
		return nil
	},
}

// forge publishes the header of one of the last messages once more, or one of a
// record that is far beyond the log's end.
func forge(ctx context.Context, h *hostile, js jetstream.JetStream) error {
	s, err := js.Stream(ctx, "E2E")
	if err != nil {
		return err
	}
	last := s.CachedInfo().State.LastSeq
	m, err := s.GetMsg(ctx, last-min(last-1, h.rnd.Uint64N(30)))
	if err != nil {
		return err
	}
	copied := &nats.Msg{Subject: strange, Header: m.Header, Data: m.Data}
	for _, name := range []string{"Nats-Expected-Last-Msg-Id", "Nats-Expected-Last-Sequence"} {
		copied.Header.Del(name)
	}
	if id := m.Header.Get("Nats-Msg-Id"); len(id) > 16 && h.rnd.IntN(2) == 0 {
		copied.Header.Set("Nats-Msg-Id", fmt.Sprintf("%s-%d", id[:16], 1_000_000_000+h.rnd.IntN(1_000_000)))
	}
	_, err = js.PublishMsg(ctx, copied)
	if errors.Is(err, jetstream.ErrNoStreamResponse) || ctx.Err() != nil {
		return nil
	}
	return err
}
