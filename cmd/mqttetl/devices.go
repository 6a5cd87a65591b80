package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// device is a simulated thing that publishes as real ones do: topic and
// payload in the form that its firmware or bridge sends.
type device struct {
	topic   string
	payload func(r *rand.Rand, now time.Time) []byte
}

// families are the kinds of devices, as they are met in the field.
var families = []func(n int) device{zigbee, tasmotaSensor, tasmotaEnergy, bareNumber, onOff, binaryMeter}

// newDevice returns the n-th device of a fleet that mixes all families.
func newDevice(n int) device { return families[n%len(families)](n / len(families)) }

var rooms = []string{"kitchen", "living_room", "bedroom", "bath", "cellar", "garage", "office", "hall"}

func room(n int) string { return rooms[n%len(rooms)] }

// zigbee is a climate sensor behind Zigbee2MQTT: one flat JSON object on
// zigbee2mqtt/<friendly name>.
func zigbee(n int) device {
	return device{
		topic: fmt.Sprintf("zigbee2mqtt/%s_climate_%d", room(n), n),
		payload: func(r *rand.Rand, _ time.Time) []byte {
			return fmt.Appendf(nil, `{"battery":%d,"humidity":%.2f,"linkquality":%d,"pressure":%.1f,"temperature":%.2f,"voltage":%d}`,
				80+r.IntN(21), 40+r.Float64()*20, 40+r.IntN(200), 990+r.Float64()*40, 18+r.Float64()*8, 2900+r.IntN(200))
		},
	}
}

// tasmotaSensor is the telemetry of a Tasmota device with one sensor: an
// object in an object, the time without a zone.
func tasmotaSensor(n int) device {
	return device{
		topic: fmt.Sprintf("tele/tasmota_%06X/SENSOR", 0xA00000+n),
		payload: func(r *rand.Rand, now time.Time) []byte {
			return fmt.Appendf(nil, `{"Time":%q,"AM2301":{"Temperature":%.1f,"Humidity":%.1f,"DewPoint":%.1f},"TempUnit":"C"}`,
				now.Format("2006-01-02T15:04:05"), 15+r.Float64()*10, 40+r.Float64()*20, 5+r.Float64()*5)
		},
	}
}

// tasmotaEnergy is a Tasmota meter of three phases: arrays in the object.
func tasmotaEnergy(n int) device {
	return device{
		topic: fmt.Sprintf("tele/tasmota_%06X/SENSOR", 0xE00000+n),
		payload: func(r *rand.Rand, now time.Time) []byte {
			return fmt.Appendf(nil, `{"Time":%q,"ENERGY":{"Total":%.3f,"Power":[%d,%d,%d],"Voltage":[%d,%d,%d],"Current":[%.3f,%.3f,%.3f]}}`,
				now.Format("2006-01-02T15:04:05"), r.Float64()*1e4, r.IntN(3000), r.IntN(3000), r.IntN(3000),
				225+r.IntN(10), 225+r.IntN(10), 225+r.IntN(10), r.Float64()*13, r.Float64()*13, r.Float64()*13)
		},
	}
}

// bareNumber is a sensor that sends a number and nothing else.
func bareNumber(n int) device {
	return device{
		topic:   fmt.Sprintf("home/%s/%d/temperature", room(n), n),
		payload: func(r *rand.Rand, _ time.Time) []byte { return fmt.Appendf(nil, "%.1f", 15+r.Float64()*10) },
	}
}

// onOff is a switch that tells its state.
func onOff(n int) device {
	return device{
		topic:   fmt.Sprintf("stat/%s_lamp_%d/POWER", room(n), n),
		payload: func(r *rand.Rand, _ time.Time) []byte { return []byte(choose(r.IntN(2) == 0, "OFF", "ON")) },
	}
}

// binaryMeter sends a packed structure: a counter, a time, a reading, a checksum.
func binaryMeter(n int) device {
	return device{
		topic: fmt.Sprintf("plant/line%d/meter/%d/raw", n%4+1, n),
		payload: func(r *rand.Rand, now time.Time) []byte {
			p := binary.BigEndian.AppendUint16(nil, uint16(n))
			p = binary.BigEndian.AppendUint32(p, uint32(now.Unix()))
			p = binary.BigEndian.AppendUint64(p, r.Uint64N(1<<40))
			sum := byte(0)
			for _, b := range p {
				sum ^= b
			}
			return append(p, sum)
		},
	}
}
