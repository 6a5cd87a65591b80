package main

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// Every message is on one of these topics, in turn, and its payload begins with
// its number, so that a store can be held to have all of them, once, in order.
const (
	topics        = 100
	counterDigits = 12
)

// topicFilter matches every topic of the benchmark.
const topicFilter = "bench/#"

// topic is topic i, all of the same length.
func topic(i int) string {
	return fmt.Sprintf("bench/hall%d/machine%d/temperature", i/10%10, i%10)
}

// payload is the payload of message n: text of the given size, n in decimal first.
func payload(n uint64, size int) []byte {
	p := make([]byte, max(size, counterDigits))
	for i := range p {
		p[i] = "{\"temperature\":21.5,\"unit\":\"C\"} "[i%32]
	}
	copy(p, fmt.Sprintf("%0*d", counterDigits, n))
	return p
}

// counter reads the number of a message from its payload.
func counter(p []byte) (uint64, error) {
	if len(p) < counterDigits {
		return 0, fmt.Errorf("payload of %d bytes has no number", len(p))
	}
	return strconv.ParseUint(string(p[:counterDigits]), 10, 64)
}

// frames makes PUBLISH packets of QoS 1 as cheaply as possible: they stand
// ready in one buffer, and only packet id and number change from lap to lap.
type frames struct {
	buf       []byte
	size      int // of one packet
	n         int // packets in buf: a power of ten, so that a lap leaves the last digits alone
	idAt      int // where the packet id stands in a packet
	digits    int // where the digits that change stand
	digitsEnd int
	at        int    // the packet that comes next
	lap       int    // times that all of buf was used
	id        uint16 // of the packet that comes next
}

// ringBytes bounds the buffer: what fits into the second level cache costs less.
const ringBytes = 1 << 20

// newFrames prepares packets for payloads of the given size; version is 4 for
// MQTT 3.1.1 and 5 for MQTT 5.
func newFrames(size int, version byte) *frames {
	f := &frames{n: topics, id: 1}
	for _, p := range f.lapPackets(size, version) {
		f.buf = append(f.buf, p...)
	}
	return f
}

// lapPackets builds the packets of one lap.
func (f *frames) lapPackets(size int, version byte) [][]byte {
	f.size = len(publishPacket(topic(0), payload(0, size), version))
	for f.n*10*f.size <= ringBytes {
		f.n *= 10
	}
	packets := make([][]byte, f.n)
	for i := range packets {
		packets[i] = publishPacket(topic(i%topics), payload(uint64(i), size), version)
	}
	f.idAt = f.size - max(size, counterDigits) - 2
	f.digits = f.idAt + 2
	if version == 5 {
		f.idAt-- // the properties' length stands between id and payload
	}
	f.digitsEnd = f.digits + counterDigits - len(strconv.Itoa(f.n-1))
	return packets
}

// publishPacket is one PUBLISH of QoS 1 with packet id 0 (MQTT 5 §3.3).
func publishPacket(topic string, payload []byte, version byte) []byte {
	m := wire.Message[string]{Flags: 1 << 1, Topic: topic, Payload: payload}
	return m.Append(nil, version == wire.Version5)
}

// next returns up to most packets in one piece of at most maxBytes, but at
// least one packet, and how many they are. The bytes are valid until the next call.
func (f *frames) next(most, maxBytes int) (packets []byte, n int) {
	n = min(most, f.n-f.at, max(1, maxBytes/f.size))
	begin := f.at * f.size
	packets = f.buf[begin : begin+n*f.size]
	for i := 0; i < len(packets); i += f.size {
		p := packets[i : i+f.size]
		binary.BigEndian.PutUint16(p[f.idAt:], f.id)
		f.id = nextID(f.id)
		if f.lap > 0 {
			increment(p[f.digits:f.digitsEnd])
		}
	}
	if f.at += n; f.at == f.n {
		f.at = 0
		f.lap++
	}
	return packets, n
}

// nextID is the packet id behind id; 0 is none (MQTT 5 §2.2.1).
func nextID(id uint16) uint16 {
	if id++; id == 0 {
		return 1
	}
	return id
}

// increment adds one to a decimal number.
func increment(digits []byte) {
	for i := len(digits) - 1; i >= 0; i-- {
		if digits[i] != '9' {
			digits[i]++
			return
		}
		digits[i] = '0'
	}
}
