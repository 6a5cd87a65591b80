package client

import (
	"context"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// A Filter is one subscription.
type Filter struct {
	Topic             string
	QoS               byte
	RetainAsPublished bool // MQTT 5 §3.8.3.1
	RetainHandling    byte // MQTT 5 §3.8.3.1: 0 retained messages are sent, 1 to a new subscription only, 2 never
}

// options are those of the subscription; 3.1.1 has only the QoS.
func (f Filter) options(v5 bool) byte {
	if !v5 {
		return f.QoS
	}
	options := f.QoS | f.RetainHandling<<wire.RetainHandlingShift
	if f.RetainAsPublished {
		options |= wire.RetainAsPublished
	}
	return options
}

// An Answer is what the broker says to one filter: the granted QoS, or a code
// from 0x80 for which Refused returns the error.
type Answer struct {
	Code   byte
	reason string // in the broker's words, of the whole packet
}

// Subscribe asks for all filters in one packet and returns an answer for each.
func (c *Client) Subscribe(ctx context.Context, filters []Filter, p Properties) ([]Answer, error) {
	list := make([]wire.Filter, len(filters))
	for i, f := range filters {
		list[i] = wire.Filter{Topic: f.Topic, Options: f.options(c.limits.V5)}
	}
	answer, err := c.ask(ctx, wire.Suback, func(dst []byte, id uint16) []byte {
		return wire.AppendSubscribe(dst, c.limits.V5, id, p, list...)
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
	_, err := c.ask(ctx, wire.Unsuback, func(dst []byte, id uint16) []byte {
		return wire.AppendUnsubscribe(dst, c.limits.V5, id, p, filters...)
	})
	return err
}

// ask sends what request appends and returns the answer, a SUBACK or UNSUBACK.
func (c *Client) ask(ctx context.Context, kind byte, request func(dst []byte, id uint16) []byte) (wire.Answer, error) {
	answer := make(chan wire.Answer, 1)
	c.mu.Lock()
	if !c.leaving { // nothing follows a DISCONNECT (MQTT 5 §3.14.4); the reason is known when the connection has ended
		id := c.flight.nextID()
		c.flight.state[id] = kind
		c.waits[id] = answer
		c.out = request(c.out, id)
		c.flushLocked()
	}
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
