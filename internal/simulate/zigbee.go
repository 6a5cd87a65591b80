package simulate

import (
	"fmt"
	"math/rand/v2"
	"time"
)

var rooms = []string{"kitchen", "living_room", "bedroom", "bath", "cellar", "garage", "office", "hall"}

// zigbee is a device of Zigbee2MQTT: one flat JSON object with sorted keys
// on zigbee2mqtt/<friendly name>, last_seen as ISO 8601.
func zigbee(n int, r *rand.Rand) thing {
	kinds := []struct {
		name   string
		fields func(r *rand.Rand) func(now time.Time, quality string) []byte
	}{{"climate", zigbeeClimate}, {"plug", zigbeePlug}, {"motion", zigbeeMotion}, {"contact", zigbeeContact}, {"light", zigbeeLight}}
	kind := kinds[n%len(kinds)]
	topic := fmt.Sprintf("zigbee2mqtt/%s_%s_%d", rooms[n%len(rooms)], kind.name, n)
	quality, payload := newWalk(r, 20, 255, 12), kind.fields(r)
	return func(now time.Time, send func(string, []byte)) {
		send(topic, payload(now, fmt.Sprintf(`"last_seen":%q,"linkquality":%d`, now.UTC().Format("2006-01-02T15:04:05.000Z07:00"), quality.whole())))
	}
}

// battery falls slowly, in percent.
func battery(r *rand.Rand) func() int {
	level := 60 + 40*r.Float64()
	return func() int {
		level = max(level-0.002, 1)
		return int(level)
	}
}

func zigbeeClimate(r *rand.Rand) func(time.Time, string) []byte {
	temperature, humidity, pressure := newWalk(r, 15, 27, 0.08), newWalk(r, 30, 70, 0.4), newWalk(r, 985, 1035, 0.2)
	left, voltage := battery(r), newWalk(r, 2800, 3100, 5)
	return func(_ time.Time, quality string) []byte {
		return fmt.Appendf(nil, `{"battery":%d,"humidity":%.2f,%s,"power_outage_count":2,"pressure":%.1f,"temperature":%.2f,"voltage":%d}`,
			left(), humidity.next(), quality, pressure.next(), temperature.next(), voltage.whole())
	}
}

func zigbeePlug(r *rand.Rand) func(time.Time, string) []byte {
	on, load, voltage := toggle{r, true, 0.02}, newWalk(r, 20, 2200, 60), newWalk(r, 224, 238, 0.5)
	energy := meter{total: r.Float64() * 500}
	return func(now time.Time, quality string) []byte {
		state, power := "OFF", 0.0
		if on.next() {
			state, power = "ON", load.next()
		}
		v := voltage.next()
		return fmt.Appendf(nil, `{"current":%.2f,"energy":%.2f,%s,"power":%.1f,"state":%q,"update":{"installed_version":41,"latest_version":41,"state":"idle"},"voltage":%.0f}`,
			power/v, energy.add(power, now), quality, power, state, v)
	}
}

func zigbeeMotion(r *rand.Rand) func(time.Time, string) []byte {
	occupied, light, left := toggle{r, false, 0.3}, newWalk(r, 0, 600, 25), battery(r)
	return func(_ time.Time, quality string) []byte {
		return fmt.Appendf(nil, `{"battery":%d,"illuminance":%d,%s,"occupancy":%t,"voltage":3015}`,
			left(), light.whole(), quality, occupied.next())
	}
}

func zigbeeContact(r *rand.Rand) func(time.Time, string) []byte {
	closed, left, temperature := toggle{r, true, 0.4}, battery(r), newWalk(r, 12, 30, 0.3)
	return func(_ time.Time, quality string) []byte {
		return fmt.Appendf(nil, `{"battery":%d,"contact":%t,"device_temperature":%d,%s,"trigger_count":0,"voltage":2985}`,
			left(), closed.next(), temperature.whole(), quality)
	}
}

func zigbeeLight(r *rand.Rand) func(time.Time, string) []byte {
	on, brightness, colour := toggle{r, true, 0.2}, newWalk(r, 1, 254, 20), newWalk(r, 153, 500, 15)
	return func(_ time.Time, quality string) []byte {
		state := "OFF"
		if on.next() {
			state = "ON"
		}
		return fmt.Appendf(nil, `{"brightness":%d,"color_mode":"color_temp","color_temp":%d,%s,"state":%q}`,
			brightness.whole(), colour.whole(), quality, state)
	}
}
