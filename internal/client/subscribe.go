package client

import (
	"context"
	"encoding/binary"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// A Filter is one subscription.
type Filter struct {
	Topic             string
	QoS               byte
	RetainAsPublished bool // MQTT 5 §3.8.3.1
	RetainHandling    byte // MQTT 5 §3.8.3.1: 0 retained messages are sent, 1 to a new subscription only, 2 never
}

// An Answer is what the broker says to one filter: the granted QoS, or a code
// from 0x80 for which Refused returns the error.
type Answer struct {
	Code   byte
	reason string // in the broker's words, of the whole packet
}

// Subscribe asks for all filters in one packet and returns an answer for each.
func (c *Client) Subscribe(ctx context.Context, filters []Filter, p Properties) ([]Answer, error) {
	answer, err := c.ask(ctx, typeSubscribe, p, func(b []byte) []byte {
		for _, f := range filters {
			options := f.QoS
			if c.limits.V5 {
				options |= f.RetainHandling << 4
			}
			if f.RetainAsPublished && c.limits.V5 {
				options |= 1 << 3
			}
			b = append(appendString(b, f.Topic), options)
		}
		return b
	})
	if err == nil && len(answer.Codes) != len(filters) {
		err = wire.Violation("a SUBACK with %d codes for %d filters", len(answer.Codes), len(filters))
	}
	if err != nil {
		return nil, err
	}
	answers := make([]Answer, len(answer.Codes))
	for i, code := range answer.Codes {
		answers[i] = Answer{code, answer.Reason()}
	}
	return answers, nil
}

// Refused is the error that an answer to Subscribe means, nil for a grant.
func Refused(f Filter, a Answer) error {
	if a.Code < 0x80 {
		return nil
	}
	return (&Refusal{Packet: "SUBACK", Code: a.Code, Reason: a.reason, About: "filter " + f.Topic}).hint()
}

// Unsubscribe ends subscriptions.
func (c *Client) Unsubscribe(ctx context.Context, filters []string, p Properties) error {
	_, err := c.ask(ctx, typeUnsubscribe, p, func(b []byte) []byte {
		for _, f := range filters {
			b = appendString(b, f)
		}
		return b
	})
	return err
}

// ask sends a SUBSCRIBE or UNSUBSCRIBE and returns the answer, which is one
// packet type later.
func (c *Client) ask(ctx context.Context, kind byte, p Properties, list func([]byte) []byte) (wire.Answer, error) {
	answer := make(chan wire.Answer, 1)
	c.mu.Lock()
	id := c.flight.nextID()
	c.flight.state[id] = kind + 1
	c.waits[id] = answer
	body := binary.BigEndian.AppendUint16(nil, id)
	c.out = appendPacket(c.out, kind<<4|2, list(c.o.properties(body, p)))
	c.flushLocked()
	c.mu.Unlock()
	select {
	case a := <-answer:
		return a, nil
	case <-c.ended:
		return wire.Answer{}, c.Err()
	case <-ctx.Done():
		return wire.Answer{}, context.Cause(ctx)
	}
}
