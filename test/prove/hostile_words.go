package prove

import (
	"bytes"
	"context"
	"fmt"

	"github.com/mqttetl/mqttetl"
)

// controlBytes: topics and user properties that a terminal would obey and that
// NATS would take for the end of a line.
var controlBytes = attack{
	name: "control bytes in topics and properties",
	prepare: func(h *hostile) error {
		return h.lyingBroker("words", func(_ context.Context, p *peer) error {
			if err := p.greet(); err != nil {
				return err
			}
			for i, topic := range controlTopics {
				var users []byte
				for _, text := range []string{"\r\nNats-Msg-Id: x", "\x1b]0;title\x07", "\x7f\u0085\u202e", topic} {
					users = append(users, byte(mqttetl.UserProperty), byte(len(text)>>8), byte(len(text)))
					users = append(append(users, text...), byte(len(text)>>8), byte(len(text)))
					users = append(users, text...)
				}
				if err := p.publish(uint16(i+1), topic, users, []byte(controlPayload(i))); err != nil {
					return err
				}
			}
			return p.answers()
		})
	},
	run: func(ctx context.Context, h *hostile) error {
		for i, topic := range controlTopics {
			if err := h.holds(ctx, topic, controlPayload(i)); err != nil {
				return fmt.Errorf("topic %q: %w", topic, err)
			}
		}
		return nil
	},
}

var controlTopics = []string{
	"words/\x1b[2J\x1b[31mred", "words/\r\nPUB x 1\r\na\r\n", "words/\t \x7f", "words/\u0085\u009b31m\u202egnp", "words/\x01\x02\x03/..//.*>%",
}

func controlPayload(i int) string { return fmt.Sprintf("\x1b[%dm\r\n\x07 words %d", i, i) }

// largeProperties: 12 MB of user properties that grow sixfold as JSON.
var largeProperties = attack{
	name: "12 MB of user properties",
	prepare: func(h *hostile) error {
		return h.lyingBroker("properties", func(_ context.Context, p *peer) error {
			if err := p.greet(); err != nil {
				return err
			}
			text := bytes.Repeat([]byte{1}, 60_000)
			user := append([]byte{byte(mqttetl.UserProperty), 0, 1, 'a', byte(len(text) >> 8), byte(len(text) & 0xff)}, text...)
			if err := p.publish(1, "properties/large", bytes.Repeat(user, 200), []byte("x")); err != nil {
				return err
			}
			if err := p.publish(2, "properties/after", nil, []byte("after it")); err != nil {
				return err
			}
			return p.answers()
		})
	},
}
