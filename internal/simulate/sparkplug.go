package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Data types of metrics (Sparkplug B 3.0, §6.4.16).
const (
	typeInt32   = 3
	typeInt64   = 4
	typeFloat   = 9
	typeDouble  = 10
	typeBoolean = 11
	typeString  = 12
)

// Field numbers of Payload and Metric in sparkplug_b.proto.
const (
	payloadTimestamp, payloadMetrics, payloadSeq                             = 1, 2, 3
	metricName, metricAlias, metricTimestamp, metricDatatype                 = 1, 2, 3, 4
	metricInt, metricLong, metricFloat, metricDouble, metricBool, metricText = 10, 11, 12, 13, 14, 15
)

// metric is one value of an edge node or device.
type metric struct {
	name     string
	alias    uint64 // 0: the name is in every message
	datatype uint64
	read     func() any // int64, float64, bool or string, as datatype wants
}

// edge is an edge node with one device.
type edge struct {
	group, node, device string
	random              *rand.Rand
	seq                 byte // of the next message (§6.4.1: 0 to 255 and around)
	born                bool
	told                int
	of, ofDevice        []metric
}

// sparkplug is an edge node: NBIRTH and DBIRTH first, with names, aliases and
// types of all metrics; then DDATA and now and then NDATA, by alias and only of
// what has changed. There is no NDEATH: it is the will of a connection that the
// node has for itself.
func sparkplug(n int, r *rand.Rand) thing {
	temperature, pressure, speed := newWalk(r, 40, 90, 0.3), newWalk(r, 1, 8, 0.05), newWalk(r, 800, 1500, 8)
	running, parts := toggle{r, true, 0.02}, int64(r.IntN(1e6))
	uptime := int64(r.IntN(1e6))
	e := &edge{group: "Plant" + fmt.Sprint(n%4+1), node: fmt.Sprintf("Edge%d", n), device: "Press", random: r}
	e.of = []metric{
		{"bdSeq", 0, typeInt64, func() any { return int64(0) }},
		{"Node Control/Rebirth", 1, typeBoolean, func() any { return false }},
		{"Properties/Hardware Make", 2, typeString, func() any { return "mqttetl simulate" }},
		{"Node/Uptime", 3, typeInt64, func() any { uptime++; return uptime }},
	}
	e.ofDevice = []metric{
		{"Inputs/Temperature", 10, typeFloat, func() any { return temperature.next() }},
		{"Inputs/Pressure", 11, typeDouble, func() any { return pressure.next() }},
		{"Inputs/Speed", 12, typeInt32, func() any { return int64(speed.next()) }},
		{"Inputs/Running", 13, typeBoolean, func() any { return running.next() }},
		{"Inputs/Parts", 14, typeInt64, func() any { parts += int64(r.IntN(3)); return parts }},
	}
	return e.tell
}

func (e *edge) tell(now time.Time, send func(string, []byte)) {
	if !e.born {
		e.born = true
		send(e.topic("NBIRTH"), e.payload(now, e.of, true))
		send(e.topic("DBIRTH")+"/"+e.device, e.payload(now, e.ofDevice, true))
		return
	}
	if e.told++; e.told%10 == 0 {
		send(e.topic("NDATA"), e.payload(now, e.of[3:], false))
		return
	}
	var changed []metric
	for i, m := range e.ofDevice {
		if i == 0 || e.random.IntN(2) == 0 {
			changed = append(changed, m)
		}
	}
	send(e.topic("DDATA")+"/"+e.device, e.payload(now, changed, false))
}

func (e *edge) topic(kind string) string { return "spBv1.0/" + e.group + "/" + kind + "/" + e.node }

// payload encodes metrics; those of a birth with name and type.
func (e *edge) payload(now time.Time, metrics []metric, birth bool) []byte {
	at := uint64(now.UnixMilli())
	b := varint(nil, payloadTimestamp, at)
	for _, m := range metrics {
		b = protowire.AppendTag(b, payloadMetrics, protowire.BytesType)
		b = protowire.AppendBytes(b, m.append(nil, at, birth))
	}
	b = varint(b, payloadSeq, uint64(e.seq))
	e.seq++
	return b
}

func (m metric) append(b []byte, at uint64, birth bool) []byte {
	if birth || m.alias == 0 {
		b = protowire.AppendTag(b, metricName, protowire.BytesType)
		b = protowire.AppendString(b, m.name)
	}
	if m.alias != 0 {
		b = varint(b, metricAlias, m.alias)
	}
	b = varint(b, metricTimestamp, at)
	if birth {
		b = varint(b, metricDatatype, m.datatype)
	}
	switch v := m.read().(type) {
	case bool:
		return varint(b, metricBool, protowire.EncodeBool(v))
	case string:
		b = protowire.AppendTag(b, metricText, protowire.BytesType)
		return protowire.AppendString(b, v)
	case float64:
		if m.datatype == typeFloat {
			b = protowire.AppendTag(b, metricFloat, protowire.Fixed32Type)
			return protowire.AppendFixed32(b, math.Float32bits(float32(v)))
		}
		b = protowire.AppendTag(b, metricDouble, protowire.Fixed64Type)
		return protowire.AppendFixed64(b, math.Float64bits(v))
	case int64:
		if m.datatype == typeInt32 {
			return varint(b, metricInt, uint64(uint32(v)))
		}
		return varint(b, metricLong, uint64(v))
	}
	return b
}

func varint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}
