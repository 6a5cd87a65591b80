package decode

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// RebirthTopic is where an edge node is asked for its birth certificate.
func RebirthTopic(group, node string) string { return "spBv1.0/" + group + "/NCMD/" + node }

// Rebirth is the payload that asks for it (Sparkplug 3.0, 6.4.19): the metric
// Node Control/Rebirth, true.
func Rebirth(now time.Time) []byte {
	ms := uint64(now.UnixMilli())
	m := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "Node Control/Rebirth")
	m = protowire.AppendVarint(protowire.AppendTag(m, 3, protowire.VarintType), ms)
	m = protowire.AppendVarint(protowire.AppendTag(m, 4, protowire.VarintType), typeBoolean)
	m = protowire.AppendVarint(protowire.AppendTag(m, metricValueAt+4, protowire.VarintType), 1)
	p := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), ms)
	return protowire.AppendBytes(protowire.AppendTag(p, 2, protowire.BytesType), m)
}
