package decode

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Costs of protobuf: what dynamicpb makes of the payload, and the document of that.
const (
	protoMessageCost = 1000
	protoFieldCost   = 450 // with a member of the document
	protoElementCost = 200 // of a list
	protoPackedCost  = 120
)

// protoWeigher adds up what the fields of a payload cost before anything is made
// of them. What is no protobuf it leaves to the decoder to say.
type protoWeigher struct {
	left     budget
	defaults map[protoreflect.FullName]int // what a message without fields costs
}

// empty is the cost of a message whose document is its defaults.
func (w *protoWeigher) empty(d protoreflect.MessageDescriptor) int {
	cost, ok := w.defaults[d.FullName()]
	if ok {
		return cost
	}
	cost = protoMessageCost
	fields := d.Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); !f.HasPresence() {
			cost += memberCost
		}
	}
	w.defaults[d.FullName()] = cost
	return cost
}

func (w *protoWeigher) message(p []byte, d protoreflect.MessageDescriptor, depth int) error {
	if err := w.left.take(w.empty(d)); err != nil || depth < 0 {
		return err
	}
	for len(p) > 0 {
		num, typ, n := protowire.ConsumeTag(p)
		if n < 0 {
			return nil
		}
		p = p[n:]
		if n = protowire.ConsumeFieldValue(num, typ, p); n < 0 {
			return nil
		}
		if f := d.Fields().ByNumber(num); f != nil {
			if err := w.field(p[:n], typ, f, depth); err != nil {
				return err
			}
		}
		p = p[n:]
	}
	return nil
}

func (w *protoWeigher) field(value []byte, typ protowire.Type, f protoreflect.FieldDescriptor, depth int) error {
	cost := protoFieldCost
	if f.IsList() {
		cost = protoElementCost
	}
	switch typ {
	case protowire.StartGroupType:
		if m := f.Message(); m != nil {
			_, n := protowire.ConsumeGroup(f.Number(), value)
			if n < 0 {
				return nil
			}
			if err := w.message(value[:n-protowire.SizeTag(f.Number())], m, depth-1); err != nil {
				return err
			}
		}
	case protowire.BytesType:
		raw, n := protowire.ConsumeBytes(value)
		if n < 0 {
			return nil
		}
		switch f.Kind() {
		case protoreflect.MessageKind, protoreflect.GroupKind:
			if err := w.message(raw, f.Message(), depth-1); err != nil {
				return err
			}
		case protoreflect.StringKind, protoreflect.BytesKind:
			cost += textCost + 2*len(raw)
		default: // packed
			cost += protoPackedCost * packedNumbers(raw, f.Kind())
		}
	}
	return w.left.take(cost)
}

// packedNumbers is how many numbers a packed field holds.
func packedNumbers(raw []byte, k protoreflect.Kind) (n int) {
	switch k {
	case protoreflect.FloatKind, protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind:
		return len(raw) / 4
	case protoreflect.DoubleKind, protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
		return len(raw) / 8
	}
	for _, b := range raw {
		if b < 0x80 {
			n++
		}
	}
	return n
}
