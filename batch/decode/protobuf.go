package decode

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/mqttetl/mqttetl"
)

func init() { formats["protobuf"] = newProtobuf }

// newProtobuf decodes a message by its descriptor. Members have the names of
// the .proto, enums are names (a number if it has none), integers exact, maps
// objects; a field without presence has its default, one with presence that is
// not set is absent. google.protobuf.Timestamp is RFC 3339, a wrapper its value.
func newProtobuf(o Options) (Decoder, error) {
	if o.Descriptor == "" || o.Message == "" {
		return nil, errors.New("protobuf needs a descriptor file and the full name of the message")
	}
	m, err := findMessage(o.Descriptor, o.Message)
	if err != nil {
		return nil, err
	}
	options := proto.UnmarshalOptions{DiscardUnknown: true, AllowPartial: true, RecursionLimit: o.MaxDepth}
	defaults := map[protoreflect.FullName]int{}
	return decoderFunc(func(p []byte) (any, error) {
		w := protoWeigher{o.budget(p), defaults}
		if err := w.message(p, m, o.MaxDepth); err != nil {
			return nil, fmt.Errorf("payload is refused: %w", err)
		}
		msg := dynamicpb.NewMessage(m)
		if err := options.Unmarshal(p, msg); err != nil {
			reason := strings.TrimSpace(strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto:"))
			return nil, fmt.Errorf("payload is not a %s of protobuf: %s", o.Message, reason)
		}
		r := protobufReader{}
		v := r.message(msg)
		if r.err != nil {
			return nil, fmt.Errorf("payload is not a %s of protobuf: %w", o.Message, r.err)
		}
		return v, nil
	}), nil
}

// findMessage reads a descriptor file.
func findMessage(file, name string) (protoreflect.MessageDescriptor, error) {
	p, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	hint := "write it with: protoc --include_imports -o FILE your.proto"
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(p, &set); err != nil {
		return nil, mqttetl.WithHint(fmt.Errorf("%s is not a descriptor file: %w", file, err), hint)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, mqttetl.WithHint(fmt.Errorf("%s: %w", file, err), hint)
	}
	d, err := files.FindDescriptorByName(protoreflect.FullName(name))
	if m, ok := d.(protoreflect.MessageDescriptor); ok {
		return m, nil
	}
	if err != nil && !errors.Is(err, protoregistry.NotFound) {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return nil, fmt.Errorf("%s has no message %s", file, name)
}

type protobufReader struct{ err error }

func (r *protobufReader) message(m protoreflect.Message) any {
	d := m.Descriptor()
	switch d.FullName() {
	case "google.protobuf.Timestamp":
		if v, ok := timestamp(m); ok {
			return v
		}
	case "google.protobuf.DoubleValue", "google.protobuf.FloatValue", "google.protobuf.Int64Value", "google.protobuf.UInt64Value",
		"google.protobuf.Int32Value", "google.protobuf.UInt32Value", "google.protobuf.BoolValue", "google.protobuf.StringValue",
		"google.protobuf.BytesValue":
		if f := d.Fields().ByName("value"); f != nil {
			return r.value(f, m.Get(f))
		}
	}
	fields := d.Fields()
	doc := map[string]any{}
	for i := 0; i < fields.Len(); i++ {
		f := fields.Get(i)
		if f.HasPresence() && !m.Has(f) {
			continue
		}
		doc[string(f.Name())] = r.field(f, m.Get(f))
	}
	return doc
}

func (r *protobufReader) field(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch {
	case f.IsMap():
		m := map[string]any{}
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			m[k.String()] = r.value(f.MapValue(), v)
			return true
		})
		return m
	case f.IsList():
		l := v.List()
		a := make([]any, 0, l.Len())
		for i := 0; i < l.Len(); i++ {
			a = append(a, r.value(f, l.Get(i)))
		}
		return a
	}
	return r.value(f, v)
}

func (r *protobufReader) value(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return r.message(v.Message())
	case protoreflect.EnumKind:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name())
		}
		return int(v.Enum())
	}
	switch v := v.Interface().(type) {
	case bool:
		return v
	case int32:
		return int(v)
	case int64:
		return int(v)
	case uint32:
		return int(v)
	case uint64:
		return fromUint(v)
	case float32:
		return float64(v)
	case float64:
		return v
	case []byte:
		return Bytes(append([]byte{}, v...))
	}
	if !utf8.ValidString(v.String()) { // proto2 does not check it
		r.err = fmt.Errorf("%s: %w", f.Name(), errInvalidText)
	}
	return v.String()
}

// timestamp returns RFC 3339, false if the message is not what its name says.
func timestamp(m protoreflect.Message) (string, bool) {
	seconds, nanos := m.Descriptor().Fields().ByName("seconds"), m.Descriptor().Fields().ByName("nanos")
	if seconds == nil || nanos == nil || seconds.Kind() != protoreflect.Int64Kind || nanos.Kind() != protoreflect.Int32Kind {
		return "", false
	}
	return time.Unix(m.Get(seconds).Int(), m.Get(nanos).Int()).UTC().Format(time.RFC3339Nano), true
}
