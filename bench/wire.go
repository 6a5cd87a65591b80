package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Packet types (MQTT 5 §2.1.2).
const (
	typeConnect    = 1
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typeSubscribe  = 8
	typeSuback     = 9
	typePingreq    = 12
	typePingresp   = 13
	typeDisconnect = 14
)

var errMalformed = errors.New("malformed packet")

// An input reads packets through one large buffer.
type input struct {
	from io.Reader
	buf  []byte
	r, w int // buf[r:w] has been read and not used
}

func newInput(from io.Reader, size int) *input {
	return &input{from: from, buf: make([]byte, size)}
}

// fill reads once, at least one byte. Packets returned before are then invalid.
func (in *input) fill() error {
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if in.w == len(in.buf) {
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
	n, err := in.from.Read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil
	}
	return err
}

// packet takes the next packet out of what has been read: its first byte and
// its body. There is none in it yet if size is 0.
func (in *input) packet() (first byte, body []byte, size int, err error) {
	b := in.buf[in.r:in.w]
	if len(b) < 2 {
		return 0, nil, 0, nil
	}
	head, length := 2, int(b[1])
	if length >= 0x80 {
		v, k := binary.Uvarint(b[1:min(len(b), 5)])
		if k == 0 && len(b) < 5 {
			return 0, nil, 0, nil
		}
		if k <= 0 {
			return 0, nil, 0, fmt.Errorf("%w: remaining length", errMalformed)
		}
		head, length = 1+k, int(v)
	}
	if len(b) < head+length {
		return 0, nil, 0, nil
	}
	in.r += head + length
	return b[0], b[head : head+length], head + length, nil
}

// await is packet that reads until there is one.
func (in *input) await() (first byte, body []byte, err error) {
	for {
		first, body, size, err := in.packet()
		if err != nil || size > 0 {
			return first, body, err
		}
		if err := in.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// awaitType is await for a packet of one type; any other is an error.
func (in *input) awaitType(want byte) ([]byte, error) {
	first, body, err := in.await()
	if err != nil {
		return nil, err
	}
	if first>>4 != want {
		return nil, fmt.Errorf("packet type %d instead of %d", first>>4, want)
	}
	return body, nil
}

// parseConnect returns the version of a CONNECT and its Receive Maximum, 65,535
// if it says none (MQTT 5 §3.1.2).
func parseConnect(body []byte) (version byte, receiveMaximum int, err error) {
	if len(body) < 10 || string(body[:6]) != "\x00\x04MQTT" {
		return 0, 0, fmt.Errorf("%w: CONNECT", errMalformed)
	}
	version = body[6]
	if version != 5 {
		return version, 65535, nil
	}
	length, k := binary.Uvarint(body[10:])
	if k <= 0 || 10+k+int(length) > len(body) {
		return 0, 0, fmt.Errorf("%w: properties of CONNECT", errMalformed)
	}
	receiveMaximum, err = findReceiveMaximum(body[10+k : 10+k+int(length)])
	return version, receiveMaximum, err
}

// findReceiveMaximum goes through the properties of a CONNECT (MQTT 5 §3.1.2.11).
func findReceiveMaximum(p []byte) (int, error) {
	sizes := map[byte]int{17: 4, 33: 2, 34: 2, 39: 4, 23: 1, 25: 1}
	most := 65535
	for len(p) > 0 {
		size, ok := sizes[p[0]]
		if !ok || len(p) < 1+size {
			return 0, fmt.Errorf("%w: property %d of CONNECT", errMalformed, p[0])
		}
		if p[0] == 33 {
			most = int(binary.BigEndian.Uint16(p[1:]))
		}
		p = p[1+size:]
	}
	return most, nil
}

// parseSubscribe returns the filters of a SUBSCRIBE, and the SUBACK that grants
// QoS 1 for all of them (MQTT 5 §3.8, §3.9).
func parseSubscribe(body []byte, version byte) (filters []string, suback []byte, err error) {
	bad := fmt.Errorf("%w: SUBSCRIBE", errMalformed)
	if len(body) < 3 {
		return nil, nil, bad
	}
	id, rest := body[:2], body[2:]
	if version == 5 {
		length, k := binary.Uvarint(rest)
		if k <= 0 || k+int(length) > len(rest) {
			return nil, nil, bad
		}
		rest = rest[k+int(length):]
	}
	for len(rest) > 0 {
		if len(rest) < 2 || len(rest) < 3+int(binary.BigEndian.Uint16(rest)) {
			return nil, nil, bad
		}
		n := int(binary.BigEndian.Uint16(rest))
		filters = append(filters, string(rest[2:2+n]))
		rest = rest[3+n:]
	}
	suback = []byte{typeSuback << 4, byte(2 + len(filters)), id[0], id[1]}
	if version == 5 {
		suback[1]++
		suback = append(suback, 0)
	}
	for range filters {
		suback = append(suback, 1)
	}
	return filters, suback, nil
}

// connectPacket is a CONNECT with a clean start, without keepalive.
func connectPacket(clientID string, version byte, receiveMaximum int) []byte {
	body := append([]byte("\x00\x04MQTT"), version, 1<<1, 0, 0)
	if version == 5 {
		body = append(body, 3, 33, byte(receiveMaximum>>8), byte(receiveMaximum))
	}
	body = binary.BigEndian.AppendUint16(body, uint16(len(clientID)))
	body = append(body, clientID...)
	return append([]byte{typeConnect << 4, byte(len(body))}, body...)
}

// connackPacket accepts (MQTT 5 §3.2).
func connackPacket(version byte) []byte {
	if version == 5 {
		return []byte{typeConnack << 4, 3, 0, 0, 0}
	}
	return []byte{typeConnack << 4, 2, 0, 0}
}

// subscribePacket asks for one filter with QoS 1.
func subscribePacket(filter string, version byte) []byte {
	body := []byte{0, 1}
	if version == 5 {
		body = append(body, 0)
	}
	body = binary.BigEndian.AppendUint16(body, uint16(len(filter)))
	body = append(body, filter...)
	body = append(body, 1)
	return append([]byte{typeSubscribe<<4 | 2, byte(len(body))}, body...)
}

// login connects as a client and checks the answer.
func login(rw io.ReadWriter, in *input, clientID string, version byte, receiveMaximum int) error {
	if _, err := rw.Write(connectPacket(clientID, version, receiveMaximum)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	body, err := in.awaitType(typeConnack)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if len(body) < 2 || body[1] != 0 {
		return fmt.Errorf("connect: refused: % x", body)
	}
	return nil
}
