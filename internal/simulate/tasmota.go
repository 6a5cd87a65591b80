package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// tasmotaTime is how Tasmota writes times: local, without a zone.
const tasmotaTime = "2006-01-02T15:04:05"

// tasmota is a device with Tasmota: at each TelePeriod tele/<topic>/STATE and,
// right after it, tele/<topic>/SENSOR.
func tasmota(n int, r *rand.Rand) thing {
	id := identity("tasmota", n)
	topic := fmt.Sprintf("tele/tasmota_%06X/", id&0xffffff)
	sensor := []func(int, *rand.Rand) func(time.Time) string{tasmotaPlug, tasmotaThreePhase, tasmotaClimate, tasmotaProbes}[n%4](n, r)
	state := tasmotaState(id, r)
	return func(now time.Time, send func(string, []byte)) {
		at := now.Format(tasmotaTime)
		send(topic+"STATE", state(now, at))
		send(topic+"SENSOR", fmt.Appendf(nil, `{"Time":%q,%s}`, at, sensor(now)))
	}
}

func tasmotaState(id uint64, r *rand.Rand) func(now time.Time, at string) []byte {
	up := time.Duration(r.IntN(40*24)) * time.Hour
	power, signal, load := toggle{r, true, 0.05}, newWalk(r, -85, -45, 1.5), newWalk(r, 15, 35, 2)
	var booted time.Time
	return func(now time.Time, at string) []byte {
		if booted.IsZero() {
			booted = now.Add(-up)
		}
		s := int64(now.Sub(booted).Seconds())
		on := "OFF"
		if power.next() {
			on = "ON"
		}
		dBm := signal.whole()
		return fmt.Appendf(nil, `{"Time":%q,"Uptime":"%dT%02d:%02d:%02d","UptimeSec":%d,"Heap":26,"SleepMode":"Dynamic","Sleep":50,"LoadAvg":%d,"MqttCount":1,"POWER":%q,`+
			`"Wifi":{"AP":1,"SSId":"plant","BSSId":"B0:4E:26:%02X:%02X:%02X","Channel":6,"Mode":"11n","RSSI":%d,"Signal":%d,"LinkCount":1,"Downtime":"0T00:00:03"}}`,
			at, s/86400, s/3600%24, s/60%60, s%60, s, load.whole(), on, byte(id>>40), byte(id>>32), byte(id>>24), min(2*(dBm+100), 100), dBm)
	}
}

// phase is the readings of one phase of a meter.
type phase struct{ power, factor, voltage *walk }

func newPhase(r *rand.Rand) phase {
	return phase{newWalk(r, 5, 3000, 80), newWalk(r, 0.7, 1, 0.02), newWalk(r, 224, 238, 0.4)}
}

// read returns power in W, apparent power in VA, reactive power in var, power
// factor, voltage in V and current in A, which belong together.
func (p phase) read() (power, apparent, reactive, factor, voltage, current float64) {
	power, factor, voltage = p.power.next(), p.factor.next(), p.voltage.next()
	apparent = power / factor
	return power, apparent, math.Sqrt(apparent*apparent - power*power), factor, voltage, apparent / voltage
}

// started is what a meter shows: total, today's start and yesterday, in kWh.
func started(r *rand.Rand) (m meter, today, yesterday float64) {
	m.total = 100 + r.Float64()*5000
	return m, m.total - r.Float64()*5, 2 + r.Float64()*10
}

func tasmotaPlug(_ int, r *rand.Rand) func(time.Time) string {
	p := newPhase(r)
	energy, today, yesterday := started(r)
	return func(now time.Time) string {
		power, apparent, reactive, factor, voltage, current := p.read()
		total := energy.add(power, now)
		return fmt.Sprintf(`"ENERGY":{"TotalStartTime":"2025-03-01T08:00:00","Total":%.3f,"Yesterday":%.3f,"Today":%.3f,"Period":%d,"Power":%.0f,"ApparentPower":%.0f,"ReactivePower":%.0f,"Factor":%.2f,"Voltage":%.0f,"Current":%.3f}`,
			total, yesterday, total-today, int(power/360), power, apparent, reactive, factor, voltage, current)
	}
}

// tasmotaThreePhase has an array where there is one value a phase.
func tasmotaThreePhase(_ int, r *rand.Rand) func(time.Time) string {
	phases := []phase{newPhase(r), newPhase(r), newPhase(r)}
	energy, today, yesterday := started(r)
	return func(now time.Time) string {
		var power, apparent, reactive, factor, voltage, current [3]float64
		for i, p := range phases {
			power[i], apparent[i], reactive[i], factor[i], voltage[i], current[i] = p.read()
		}
		sum := power[0] + power[1] + power[2]
		total := energy.add(sum, now)
		return fmt.Sprintf(`"ENERGY":{"TotalStartTime":"2025-03-01T08:00:00","Total":%.3f,"Yesterday":%.3f,"Today":%.3f,"Period":%d,"Power":%s,"ApparentPower":%s,"ReactivePower":%s,"Factor":%s,"Frequency":50,"Voltage":%s,"Current":%s}`,
			total, yesterday, total-today, int(sum/360), array(0, power), array(0, apparent), array(0, reactive), array(2, factor), array(0, voltage), array(3, current))
	}
}

func array(digits int, v [3]float64) string {
	return fmt.Sprintf("[%.*f,%.*f,%.*f]", digits, v[0], digits, v[1], digits, v[2])
}

func tasmotaClimate(_ int, r *rand.Rand) func(time.Time) string {
	temperature, humidity := newWalk(r, 14, 28, 0.1), newWalk(r, 30, 75, 0.5)
	return func(time.Time) string {
		t, h := temperature.next(), humidity.next()
		gamma := math.Log(h/100) + 17.62*t/(243.12+t) // Magnus
		return fmt.Sprintf(`"AM2301":{"Temperature":%.1f,"Humidity":%.1f,"DewPoint":%.1f},"TempUnit":"C"`, t, h, 243.12*gamma/(17.62-gamma))
	}
}

func tasmotaProbes(n int, r *rand.Rand) func(time.Time) string {
	supply, back := newWalk(r, 35, 65, 0.4), newWalk(r, 25, 45, 0.3)
	id := identity("ds18b20", n)
	return func(time.Time) string {
		return fmt.Sprintf(`"DS18B20-1":{"Id":"%012X","Temperature":%.1f},"DS18B20-2":{"Id":"%012X","Temperature":%.1f},"TempUnit":"C"`,
			id&0xffffffffff, supply.next(), (id+1)&0xffffffffff, back.next())
	}
}
