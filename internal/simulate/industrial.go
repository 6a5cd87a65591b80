package simulate

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// industrial is a machine on a line, in one of the forms in which PLCs and OPC
// servers are published.
func industrial(n int, r *rand.Rand) thing {
	return []func(int, *rand.Rand) thing{gatewayJSON, bareTags, pubSubJSON, registers}[n%4](n, r)
}

// machine is the readings of a machine.
type machine struct {
	temperature, pressure, vibration, speed *walk
	running                                 toggle
	parts                                   uint32
}

func newMachine(r *rand.Rand) *machine {
	return &machine{
		temperature: newWalk(r, 35, 95, 0.3), pressure: newWalk(r, 2, 9, 0.05), vibration: newWalk(r, 0.2, 7, 0.1), speed: newWalk(r, 600, 1800, 10),
		running: toggle{r, true, 0.01}, parts: uint32(r.IntN(1e6)),
	}
}

// made counts the parts.
func (m *machine) made() uint32 {
	if m.running.next() {
		m.parts++
	}
	return m.parts
}

// gatewayJSON is the standard template of Kepware's IoT Gateway: id, value,
// quality and time in Unix milliseconds of each tag.
func gatewayJSON(n int, r *rand.Rand) thing {
	m, channel := newMachine(r), fmt.Sprintf("Line%d.Press%d", n%4+1, n)
	return func(now time.Time, send func(string, []byte)) {
		at := now.UnixMilli()
		b := fmt.Appendf(nil, `{"timestamp":%d,"values":[`, at)
		b = fmt.Appendf(b, `{"id":"%s.Temperature","v":%.2f,"q":true,"t":%d},`, channel, m.temperature.next(), at)
		b = fmt.Appendf(b, `{"id":"%s.Pressure","v":%.3f,"q":true,"t":%d},`, channel, m.pressure.next(), at)
		b = fmt.Appendf(b, `{"id":"%s.Parts","v":%d,"q":true,"t":%d},`, channel, m.made(), at)
		b = fmt.Appendf(b, `{"id":"%s.Running","v":%t,"q":true,"t":%d}]}`, channel, m.running.on, at)
		send("iotgateway", b)
	}
}

// bareTags has a topic for each tag, by site, area, line and cell, and a bare
// number as payload.
func bareTags(n int, r *rand.Rand) thing {
	m, topic := newMachine(r), fmt.Sprintf("plant/hall%d/line%d/filler%d/", n%2+1, n%4+1, n)
	return func(_ time.Time, send func(string, []byte)) {
		send(topic+"temperature", fmt.Appendf(nil, "%.2f", m.temperature.next()))
		send(topic+"vibration", fmt.Appendf(nil, "%.3f", m.vibration.next()))
		send(topic+"speed", fmt.Appendf(nil, "%d", m.speed.whole()))
		send(topic+"running", fmt.Appendf(nil, "%t", m.running.next()))
	}
}

// pubSubJSON is a network message of OPC UA PubSub in JSON (Part 14, §7.2.5).
func pubSubJSON(n int, r *rand.Rand) thing {
	m, id, seq := newMachine(r), identity("opcua", n), 0
	topic := fmt.Sprintf("opcua/json/data/urn:plant:plc%d/machine", n)
	return func(now time.Time, send func(string, []byte)) {
		seq++
		at := now.UTC().Format("2006-01-02T15:04:05.000Z07:00")
		send(topic, fmt.Appendf(nil, `{"MessageId":"%016x-%d","MessageType":"ua-data","PublisherId":"urn:plant:plc%d","Messages":[{"DataSetWriterId":1,"SequenceNumber":%d,"Timestamp":%q,"Payload":{`+
			`"Temperature":{"Value":%.2f,"SourceTimestamp":%q},"SpindleSpeed":{"Value":%d,"SourceTimestamp":%q},"PartCount":{"Value":%d,"SourceTimestamp":%q}}}]}`,
			id, seq, n, seq, at, m.temperature.next(), at, m.speed.whole(), at, m.made(), at))
	}
}

// registers are the holding registers of a PLC as they are in its memory, big
// endian: unit, status, two floats, a counter, and the CRC of Modbus.
func registers(n int, r *rand.Rand) thing {
	m, topic := newMachine(r), fmt.Sprintf("plant/plc/%d/registers", n)
	return func(_ time.Time, send func(string, []byte)) {
		parts := m.made()
		b := binary.BigEndian.AppendUint16(nil, uint16(n))
		b = binary.BigEndian.AppendUint16(b, map[bool]uint16{true: 1}[m.running.on])
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(float32(m.temperature.next())))
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(float32(m.pressure.next())))
		b = binary.BigEndian.AppendUint32(b, parts)
		send(topic, binary.LittleEndian.AppendUint16(b, modbusCRC(b)))
	}
}

// modbusCRC is CRC-16/MODBUS.
func modbusCRC(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, x := range b {
		crc ^= uint16(x)
		for range 8 {
			odd := crc&1 == 1
			crc >>= 1
			if odd {
				crc ^= 0xa001
			}
		}
	}
	return crc
}
