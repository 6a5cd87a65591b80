package client

import (
	"context"
	"encoding/binary"
	"fmt"
)

// A Filter is one subscription.
type Filter struct {
	Topic             string
	QoS               byte
	RetainAsPublished bool // MQTT 5 §3.8.3.1
}

// An Answer is what the broker says to one filter: the granted QoS, or a code
// from 0x80 for which Refused returns the error.
type Answer struct {
	Code   byte
	reason string // in the broker's words, of the whole packet
}

// Subscribe asks for all filters in one packet and returns an answer for each.
func (c *Client) Subscribe(ctx context.Context, filters []Filter, p Properties) ([]Answer, error) {
	codes, reason, err := c.ask(ctx, typeSubscribe, p, func(b []byte) []byte {
		for _, f := range filters {
			options := f.QoS
			if f.RetainAsPublished && c.o.Version == Version5 {
				options |= 1 << 3
			}
			b = append(appendString(b, f.Topic), options)
		}
		return b
	})
	if err == nil && len(codes) != len(filters) {
		err = fmt.Errorf("SUBACK has %d answers for %d filters", len(codes), len(filters))
	}
	answers := make([]Answer, len(codes))
	for i, code := range codes {
		answers[i] = Answer{code, reason}
	}
	return answers, err
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
	_, _, err := c.ask(ctx, typeUnsubscribe, p, func(b []byte) []byte {
		for _, f := range filters {
			b = appendString(b, f)
		}
		return b
	})
	return err
}

// ask sends a SUBSCRIBE or UNSUBSCRIBE and returns the codes of the answer, and
// its reason string.
func (c *Client) ask(ctx context.Context, kind byte, p Properties, list func([]byte) []byte) (codes []byte, reason string, err error) {
	answer := make(chan []byte, 1)
	c.mu.Lock()
	id := c.flight.nextID()
	c.flight.state[id] = typeSuback
	c.waits[id] = answer
	body := binary.BigEndian.AppendUint16(nil, id)
	c.out = appendPacket(c.out, kind<<4|2, list(c.o.properties(body, p)))
	c.flushLocked()
	c.mu.Unlock()
	select {
	case b := <-answer:
		if c.o.Version != Version5 {
			return b, "", nil
		}
		props, codes, err := splitProperties(b)
		if err == nil {
			err = props.each(func(id byte, v property) {
				if id == reasonString {
					reason = v.text
				}
			})
		}
		return codes, reason, err
	case <-c.ended:
		return nil, "", c.Err()
	case <-ctx.Done():
		return nil, "", context.Cause(ctx)
	}
}
