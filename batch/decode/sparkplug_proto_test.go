package decode

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

var descriptor struct {
	once sync.Once
	file []byte
	err  error
}

// sparkplugDescriptor returns the file that protoc makes of sparkplug_b.proto.
func sparkplugDescriptor(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sparkplug_b.pb")
	descriptor.once.Do(func() {
		out, err := exec.Command("protoc", "--include_imports", "-o", file, "sparkplug_b.proto").CombinedOutput()
		if err != nil {
			t.Fatalf("protoc (apt-get install protobuf-compiler): %v\n%s", err, out)
		}
		descriptor.file, descriptor.err = os.ReadFile(file)
	})
	if descriptor.err != nil || len(descriptor.file) == 0 {
		t.Fatalf("protoc wrote nothing: %v", descriptor.err)
	}
	if err := os.WriteFile(file, descriptor.file, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// payloadType is Payload as protoc understands it.
func payloadType(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	m, err := findMessage(sparkplugDescriptor(t), "mqttetl.sparkplug.Payload")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// encode makes a message of its fields by name, with protobuf's own encoder.
func encode(t failer, d protoreflect.MessageDescriptor, fields object) []byte {
	t.Helper()
	p, err := proto.Marshal(build(t, d, fields))
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return p
}

func build(t failer, d protoreflect.MessageDescriptor, fields object) proto.Message {
	t.Helper()
	m := dynamicpb.NewMessage(d)
	for name, v := range fields {
		f := d.Fields().ByName(protoreflect.Name(name))
		if f == nil {
			t.Fatalf("%s has no field %s", d.FullName(), name)
		}
		one := func(v any) protoreflect.Value {
			if o, ok := v.(object); ok {
				return protoreflect.ValueOfMessage(build(t, f.Message(), o).ProtoReflect())
			}
			return protoreflect.ValueOf(v)
		}
		if !f.IsList() {
			m.Set(f, one(v))
			continue
		}
		list := m.Mutable(f).List()
		for _, e := range v.([]any) {
			list.Append(one(e))
		}
	}
	return m
}
