package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/mqttetl/mqttetl/internal/wire"
)

var errMalformed = errors.New("malformed packet")

// An input reads packets from a stream through one large buffer.
type input struct {
	*wire.Input
	from io.Reader
}

func newInput(from io.Reader, size int) *input { return &input{wire.NewInput(size), from} }

// fill reads once, at least one byte. Packets returned before are then invalid.
func (in *input) fill() error { return in.Fill(in.from) }

// await takes the next packet, and reads until there is one.
func (in *input) await() (first byte, body []byte, err error) { return in.Await(in.from) }

// awaitType is await for a packet of one type; any other is an error.
func (in *input) awaitType(want byte) ([]byte, error) {
	first, body, err := in.await()
	if err != nil {
		return nil, err
	}
	if first>>4 != want {
		return nil, fmt.Errorf("%s instead of %s", wire.Name(first>>4), wire.Name(want))
	}
	return body, nil
}

// receiveMaximum is that of a CONNECT, 65,535 if it says none (MQTT 5 §3.1.2.11.3).
func receiveMaximum(l *wire.Login) int {
	for p := range l.Props.All() {
		if p.ID == wire.ReceiveMaximum {
			return int(p.Number)
		}
	}
	return 65535
}

// grant grants QoS 1 for all filters of a SUBSCRIBE, whose topics it returns.
func grant(body []byte, version byte) (topics []string, suback []byte, err error) {
	v5 := version == wire.Version5
	id, _, filters, err := wire.ReadSubscribe(body, v5)
	a := wire.Answer{ID: id}
	for _, f := range filters {
		topics, a.Codes = append(topics, f.Topic), append(a.Codes, 1)
	}
	return topics, wire.AppendCodes(nil, wire.Suback, v5, a), err
}

// connectPacket is a CONNECT with a clean start, without keepalive.
func connectPacket(clientID string, version byte, receiveMaximum int) []byte {
	l := wire.Login{Version: version, ClientID: clientID, CleanStart: true}
	if version == wire.Version5 {
		l.Props = wire.Properties{wire.ReceiveMaximum, byte(receiveMaximum >> 8), byte(receiveMaximum)}
	}
	return l.Append(nil)
}

// subscribePacket asks for one filter with QoS 1.
func subscribePacket(filter string, version byte) []byte {
	return wire.AppendSubscribe(nil, version == wire.Version5, 1, nil, wire.Filter{Topic: filter, Options: 1})
}

// login connects as a client and checks the answer.
func login(rw io.ReadWriter, in *input, clientID string, version byte, receiveMaximum int) error {
	if _, err := rw.Write(connectPacket(clientID, version, receiveMaximum)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	body, err := in.awaitType(wire.Connack)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if a, err := wire.ReadConnack(body, version == wire.Version5); err != nil || a.Code != 0 {
		return fmt.Errorf("connect: refused: % x", body)
	}
	return nil
}
