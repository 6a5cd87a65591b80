package simulate

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// of is a scenario with one group.
func of(profile string, devices int, rate float64) *Scenario {
	return &Scenario{Seed: 7, Start: noon, Groups: []Group{{Profile: profile, Devices: devices, Rate: rate, Jitter: 0.3}}}
}

// take returns the first n messages.
func take(t *testing.T, s *Scenario, n int) []Message {
	t.Helper()
	for i := range s.Groups {
		if err := s.Groups[i].Check(); err != nil {
			t.Fatal(err)
		}
	}
	f := New(s)
	messages := make([]Message, n)
	for i := range messages {
		m, ok := f.Next()
		if !ok {
			t.Fatalf("the fleet ends after %d messages", i)
		}
		messages[i] = m
	}
	return messages
}

func same(a, b Message) bool {
	return a.At == b.At && a.Device == b.Device && a.Topic == b.Topic && bytes.Equal(a.Payload, b.Payload)
}

func TestSameSeedSameMessages(t *testing.T) {
	s := of(All, 40, 100)
	a, b := take(t, s, 3000), take(t, s, 3000)
	if !slices.EqualFunc(a, b, same) {
		t.Error("the same seed makes other messages")
	}
	s.Seed++
	if slices.EqualFunc(a, take(t, s, 3000), func(x, y Message) bool { return bytes.Equal(x.Payload, y.Payload) }) {
		t.Error("another seed makes the same messages")
	}
	if !slices.IsSortedFunc(a, func(x, y Message) int { return int(x.At - y.At) }) {
		t.Error("not in the order of time")
	}
}

func TestADeviceAloneSendsWhatItSendsInTheFleet(t *testing.T) {
	s := of(All, 12, 50)
	alone := Devices(s)[7]
	for _, m := range take(t, s, 500) {
		if m.Device == 7 {
			if own := alone.Next(); !same(own, m) {
				t.Fatalf("%v %s alone, %v %s in the fleet", own.At, own.Topic, m.At, m.Topic)
			}
		}
	}
}

func TestCountEndsTheFleet(t *testing.T) {
	s := of("tasmota", 3, 10)
	s.Count = 5
	f, n := New(s), 0
	for _, ok := f.Next(); ok; _, ok = f.Next() {
		n++
	}
	if n != 5 {
		t.Errorf("%d messages", n)
	}
}

// The rate holds whatever the jitter and the burst are.
func TestRate(t *testing.T) {
	for _, p := range profiles {
		for _, burst := range []int{0, 1, 25} {
			s := of(p.name, 20, 40)
			s.Groups[0].Burst = burst
			messages := take(t, s, 20_000)
			rate := float64(len(messages)) / messages[len(messages)-1].At.Seconds()
			if math.Abs(rate-40) > 0.02*40 {
				t.Errorf("%s, burst %d: %.1f messages a second", p.name, burst, rate)
			}
		}
	}
}

func TestBurst(t *testing.T) {
	s := of("wearable", 1, 2)
	s.Groups[0].Jitter = 0
	messages := take(t, s, 40)
	var read []int64
	for i, m := range messages {
		if first := messages[i/10*10]; m.At != first.At {
			t.Errorf("message %d leaves at %v, its burst at %v", i, m.At, first.At)
		}
		var v struct{ TS int64 }
		if err := json.Unmarshal(m.Payload, &v); err != nil {
			t.Fatal(err)
		}
		read = append(read, v.TS)
	}
	for i := range read[1:] {
		if gap := read[i+1] - read[i]; gap < 499 || gap > 501 {
			t.Errorf("%d ms between readings %d and %d, want 500", gap, i, i+1)
		}
	}
}

func TestGroupsPrefixesAndNumbers(t *testing.T) {
	s := &Scenario{Seed: 1, Start: noon, Prefix: "sim", Groups: []Group{
		{Profile: "zigbee2mqtt", Devices: 2, Rate: 10, First: 40, Prefix: "home/a"},
		{Profile: "tasmota", Devices: 1, Rate: 10, After: time.Minute},
	}}
	first := map[int]Message{}
	for _, m := range take(t, s, 2000) {
		if _, ok := first[m.Device]; !ok {
			first[m.Device] = m
		}
	}
	if got := first[1].Topic; got != "sim/home/a/zigbee2mqtt/living_room_plug_41" {
		t.Errorf("topic %s", got)
	}
	if m := first[2]; m.At < time.Minute || m.At > 70*time.Second || !strings.HasPrefix(m.Topic, "sim/tele/tasmota_") {
		t.Errorf("group 2 begins with %s at %v", m.Topic, m.At)
	}
}

func TestModbusCRC(t *testing.T) {
	if got := modbusCRC([]byte("123456789")); got != 0x4b37 { // the check value of CRC-16/MODBUS
		t.Errorf("%04x", got)
	}
}

// Every payload is what its firmware would send.
func TestPayloads(t *testing.T) {
	seen := map[string]int{}
	for _, m := range take(t, of(All, 100, 1000), 20_000) {
		if err := mqttetl.CheckTopic([]byte(m.Topic)); err != nil {
			t.Error(err)
		}
		kind := payloadKind(t, m)
		if seen[kind]++; kind == "" {
			t.Fatalf("%s: %q", m.Topic, m.Payload)
		}
	}
	for _, kind := range []string{"zigbee", "tasmota STATE", "tasmota SENSOR", "tasmota phases", "sparkplug NBIRTH", "sparkplug DBIRTH", "sparkplug NDATA",
		"sparkplug DDATA", "gateway", "number", "boolean", "opc ua", "registers", "heart rate", "measurement"} {
		if seen[kind] == 0 {
			t.Errorf("no %s in %v", kind, seen)
		}
	}
}

// payloadKind looks at one message; "" is not what it should be.
func payloadKind(t *testing.T, m Message) string {
	t.Helper()
	var v map[string]any
	_ = json.Unmarshal(m.Payload, &v)
	has := func(keys ...string) bool {
		return !slices.ContainsFunc(keys, func(k string) bool { _, ok := v[k]; return !ok })
	}
	level := strings.Split(m.Topic, "/")
	last := level[len(level)-1]
	switch {
	case level[0] == "zigbee2mqtt" && has("last_seen", "linkquality"):
		if at, err := time.Parse(time.RFC3339, v["last_seen"].(string)); err == nil && at.Sub(noon) <= m.At && m.At-at.Sub(noon) < time.Minute {
			return "zigbee"
		}
	case level[0] == "tele" && last == "STATE" && has("Time", "Uptime", "Wifi"):
		return "tasmota STATE"
	case level[0] == "tele" && last == "SENSOR" && has("Time"):
		if energy, _ := v["ENERGY"].(map[string]any); energy != nil {
			if phases, ok := energy["Power"].([]any); ok && len(phases) == 3 {
				return "tasmota phases"
			}
		}
		return "tasmota SENSOR"
	case level[0] == "spBv1.0":
		return "sparkplug " + level[2]
	case last == "iotgateway" && has("timestamp", "values"):
		return "gateway"
	case level[0] == "opcua" && has("Messages"):
		return "opc ua"
	case last == "registers" && len(m.Payload) == 18 && modbusCRC(m.Payload) == 0: // a CRC behind its data cancels it
		return "registers"
	case last == "heart_rate" && has("ts", "hr", "rr"):
		return "heart rate"
	case last == "hrm" && len(m.Payload) == 14 && int64(binary.LittleEndian.Uint64(m.Payload)) >= noon.Add(-time.Minute).UnixMilli():
		return "measurement"
	}
	if _, err := strconv.ParseFloat(string(m.Payload), 64); err == nil {
		return "number"
	}
	if _, err := strconv.ParseBool(string(m.Payload)); err == nil {
		return "boolean"
	}
	return ""
}

// Readings move by small steps, and all over their range.
func TestReadingsMoveAsThoseOfSensors(t *testing.T) {
	var before, least, most float64
	n := 0
	for _, m := range take(t, of("zigbee2mqtt", 5, 10), 20_000) {
		var v struct{ Temperature *float64 }
		if json.Unmarshal(m.Payload, &v); v.Temperature == nil {
			continue
		}
		now := *v.Temperature
		if n++; n == 1 {
			before, least, most = now, now, now
		}
		if math.Abs(now-before) > 0.6 {
			t.Errorf("%.2f °C after %.2f", now, before)
		}
		before, least, most = now, min(least, now), max(most, now)
	}
	if most-least < 1 || least < 15 || most > 27 || n < 3000 {
		t.Errorf("%d readings from %.2f to %.2f °C", n, least, most)
	}
}

// fields reads the fields of a protobuf message, by number.
func fields(t *testing.T, b []byte) map[protowire.Number][]any {
	t.Helper()
	found := map[protowire.Number][]any{}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatalf("not protobuf: % x", b)
		}
		b = b[n:]
		var v any
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			v, n = protowire.ConsumeFixed32(b)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			v, n = protowire.ConsumeBytes(b)
		}
		if n < 0 || v == nil {
			t.Fatalf("field %d: % x", number, b)
		}
		found[number] = append(found[number], v)
		b = b[n:]
	}
	return found
}

// A consumer that knows the births can read the data: sequence numbers follow
// one another, aliases are known, and values have the type of the birth.
func TestSparkplugFollowsItsBirths(t *testing.T) {
	valueField := map[uint64]protowire.Number{typeInt32: metricInt, typeInt64: metricLong, typeFloat: metricFloat, typeDouble: metricDouble, typeBoolean: metricBool, typeString: metricText}
	types := map[uint64]uint64{} // by alias
	next, data := uint64(0), 0
	for i, m := range take(t, of("sparkplug", 1, 10), 2000) {
		kind := strings.Split(m.Topic, "/")[2]
		p := fields(t, m.Payload)
		if want := []string{"NBIRTH", "DBIRTH"}; i < 2 && kind != want[i] || i >= 2 && slices.Contains(want, kind) {
			t.Fatalf("message %d is %s", i, kind)
		}
		if got := p[payloadSeq][0].(uint64); got != next {
			t.Fatalf("message %d: seq %d, want %d", i, got, next)
		}
		next = (next + 1) % 256
		for _, raw := range p[payloadMetrics] {
			f := fields(t, raw.([]byte))
			if f[metricDatatype] != nil {
				if f[metricName] == nil {
					t.Fatal("a birth without names")
				}
				if f[metricAlias] != nil {
					types[f[metricAlias][0].(uint64)] = f[metricDatatype][0].(uint64)
				}
				continue
			}
			data++
			datatype, known := types[f[metricAlias][0].(uint64)]
			if !known || len(f[valueField[datatype]]) != 1 || f[metricName] != nil {
				t.Fatalf("message %d, %s: metric % x, datatype %d", i, kind, raw, datatype)
			}
		}
	}
	if len(types) != 8 || data < 2000 {
		t.Errorf("%d aliases, %d values", len(types), data)
	}
}

// The pipeline's decoder reads what the edge nodes send, every value with its name.
func TestSparkplugIsDecoded(t *testing.T) {
	d, err := decode.New("sparkplug_b", decode.Options{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for i, m := range take(t, of("sparkplug", 7, 10), 3000) {
		err := d.Decode(m.Topic, m.Payload, func(doc any) error {
			metric := doc.(map[string]any)
			names[fmt.Sprintf("%v %v %T", metric["metric"], metric["type"], metric["value"])]++
			return nil
		})
		if err != nil {
			t.Fatalf("message %d, %s: %v", i, m.Topic, err)
		}
	}
	for _, want := range []string{"bdSeq Int64 int", "Node/Uptime Int64 int", "Inputs/Temperature Float float64", "Inputs/Running Boolean bool", "Inputs/Speed Int32 int"} {
		if names[want] == 0 {
			t.Errorf("no %s in %v", want, names)
		}
	}
	if len(names) != 9 {
		t.Errorf("%v", names)
	}
}
