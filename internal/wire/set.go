package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// The packets whose properties a user can set, by the names of mosquitto_pub -D.
const (
	ForConnect     = "connect"
	ForWill        = "will"
	ForPublish     = "publish"
	ForSubscribe   = "subscribe"
	ForUnsubscribe = "unsubscribe"
	ForDisconnect  = "disconnect"
)

var settable = map[string]byte{
	ForConnect: Connect, ForWill: Will, ForPublish: Publish,
	ForSubscribe: Subscribe, ForUnsubscribe: Unsubscribe, ForDisconnect: Disconnect,
}

// serverOnly are properties that only the server may put into a packet.
var serverOnly = map[string]string{"subscription-identifier": ForPublish, "server-reference": ForDisconnect}

// Set appends the property called name, which must be one that a client can set
// for the packet where; values are its value, for a user property name and value.
func (p *Properties) Set(where, name string, values ...string) error {
	packet, ok := settable[where]
	if !ok {
		return fmt.Errorf("properties of %q: a packet is one of %s", where, strings.Join(slices.Sorted(maps.Keys(settable)), ", "))
	}
	id := slices.IndexFunc(definitions[:], func(d definition) bool { return d.name == name })
	if id <= 0 || definitions[id].where>>packet&1 == 0 || serverOnly[name] == where {
		return fmt.Errorf("%s has no property %q", where, name)
	}
	d := definitions[id]
	if d.kind != pairKind && p.has(byte(id)) {
		return fmt.Errorf("property %s of %s is set twice", name, where)
	}
	b, err := d.append(append([]byte(*p), byte(id)), byte(id), values)
	if err != nil {
		return fmt.Errorf("property %s: %w", name, err)
	}
	*p = b
	return nil
}

// Values is how many values Set wants for the property called name.
func Values(name string) int {
	if name == definitions[userProperty].name {
		return 2
	}
	return 1
}

// ranges of the integers.
var ranges = map[kind]struct {
	most  int64
	bytes int
}{
	byteKind:   {1, 1}, // all that a client sets are flags
	uint16Kind: {65535, 2},
	uint32Kind: {4294967295, 4},
	varKind:    {mqttetl.MaxVarInt, 0},
}

func (d definition) append(dst []byte, id byte, values []string) ([]byte, error) {
	for _, v := range values {
		switch {
		case len(v) > 65535:
			return nil, errors.New("longer than 65,535 bytes")
		case d.kind != binaryKind && !validString([]byte(v)):
			return nil, errors.New("not UTF-8")
		}
	}
	switch d.kind {
	case pairKind:
		return AppendString(AppendString(dst, values[0]), values[1]), nil
	case stringKind, binaryKind:
		return AppendString(dst, values[0]), d.check(Property{ID: id, Value: []byte(values[0])})
	}
	r, least := ranges[d.kind], 0
	if d.check(Property{ID: id}) != nil {
		least = 1
	}
	v, err := strconv.ParseInt(values[0], 10, 64)
	if errors.Is(err, strconv.ErrSyntax) {
		return nil, fmt.Errorf("%q is not a number", values[0])
	}
	if err != nil || v < int64(least) || v > r.most {
		return nil, fmt.Errorf("%s is out of range, it must be %d to %d", values[0], least, r.most)
	}
	if d.kind == varKind {
		return mqttetl.AppendVarInt(dst, uint32(v)), nil
	}
	wide := binary.BigEndian.AppendUint32(nil, uint32(v))
	return append(dst, wide[4-r.bytes:]...), nil
}

// Number is the value of the integer called name, if it is there.
func (p Properties) Number(name string) (v uint32, ok bool) {
	for v := range p.All() {
		if define(v.ID).name == name {
			return v.Number, true
		}
	}
	return 0, false
}

// has says whether a property is there.
func (p Properties) has(id byte) bool {
	for v := range p.All() {
		if v.ID == id {
			return true
		}
	}
	return false
}
