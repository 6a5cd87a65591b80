package decode

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
)

const meterProto = `syntax = "proto3";
package meter.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum State { STATE_UNKNOWN = 0; STATE_ON = 1; }
message Reading {
  google.protobuf.Timestamp at = 1;
  sint64 energy = 2;
  uint64 serial = 3;
  optional double power = 4;
  State state = 5;
  map<string, float> phases = 6;
  repeated fixed32 codes = 7;
  oneof id { string name = 8; int32 number = 9; }
  bytes raw = 10;
  google.protobuf.DoubleValue limit = 11;
  Reading previous = 12;
  map<int32, bool> flags = 13;
}
`

// What meterProto imports; protoc's own copies are another package of Debian.
var imports = map[string]string{
	"timestamp.proto": `syntax = "proto3"; package google.protobuf; message Timestamp { int64 seconds = 1; int32 nanos = 2; }`,
	"wrappers.proto":  `syntax = "proto3"; package google.protobuf; message DoubleValue { double value = 1; }`,
}

// compile runs protoc on a file in a directory of its own.
func compile(t *testing.T, text string, options ...string) string {
	t.Helper()
	dir := t.TempDir()
	google := filepath.Join(dir, "google", "protobuf")
	if err := os.MkdirAll(google, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range imports {
		if err := os.WriteFile(filepath.Join(google, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "meter.proto"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "meter.pb")
	if msg, err := exec.Command("protoc", append(options, "-I", dir, "-o", out, "meter.proto")...).CombinedOutput(); err != nil {
		t.Fatalf("protoc (apt-get install protobuf-compiler): %v\n%s", err, msg)
	}
	return out
}

func TestProtobuf(t *testing.T) {
	file := compile(t, meterProto, "--include_imports")
	d, err := findMessage(file, "meter.v1.Reading")
	if err != nil {
		t.Fatal(err)
	}
	dec := mustNew(t, "protobuf", Options{Descriptor: file, Message: "meter.v1.Reading"})
	empty := object{"energy": 0, "serial": 0, "state": "STATE_UNKNOWN", "phases": object{}, "codes": []any{}, "raw": Bytes{}, "flags": object{}}
	with := func(more object) object {
		doc := object{}
		for k, v := range empty {
			doc[k] = v
		}
		for k, v := range more {
			doc[k] = v
		}
		return doc
	}
	for _, c := range []struct {
		payload []byte
		want    object
	}{
		{nil, empty},
		{encode(t, d, object{"at": object{"seconds": int64(1700000000), "nanos": int32(5e8)}, "energy": int64(-1 << 63), "serial": uint64(1<<64 - 1),
			"power": 0.0, "codes": []any{uint32(1), uint32(1<<32 - 1)}, "name": "x", "raw": []byte{255}, "limit": object{"value": 2.5}}),
			with(object{"at": "2023-11-14T22:13:20.5Z", "energy": -1 << 63, "serial": bigInt("18446744073709551615"), "power": 0.0,
				"codes": []any{1, 1<<32 - 1}, "name": "x", "raw": Bytes{255}, "limit": 2.5})},
		{[]byte{0x28, 1, 0x48, 7}, with(object{"state": "STATE_ON", "number": 7})},
		{[]byte{0x28, 9}, with(object{"state": 9})}, // not in the enum
		{[]byte{0x32, 8, 0x0a, 1, 'a', 0x15, 0, 0, 0xc0, 0x3f}, with(object{"phases": object{"a": 1.5}})},
		{[]byte{0x6a, 4, 0x08, 5, 0x10, 1}, with(object{"flags": object{"5": true}})},
		{encode(t, d, object{"previous": object{}}), with(object{"previous": empty})},
		{[]byte{0xa0, 0x06, 1}, empty}, // unknown field
	} {
		docs, err := all(dec, "", c.payload)
		if err != nil || !same(docs[0], c.want) {
			t.Errorf("%x: %v, %v\nwant %v", c.payload, docs, err, c.want)
		}
	}
	for payload, want := range map[string]string{
		"\x10":         "payload is not a meter.v1.Reading of protobuf: ",
		"\x62\x01\x0b": "payload is not a meter.v1.Reading of protobuf: ",
		"\x42\x01\xff": "payload is not a meter.v1.Reading of protobuf: field meter.v1.Reading.name contains invalid UTF-8",
	} {
		if _, err := all(dec, "", []byte(payload)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%x: %v, want %s", payload, err, want)
		}
	}
}

// TestProtobufConfig: what is wrong with the descriptor is said when the config
// is read, with how to make one.
func TestProtobufConfig(t *testing.T) {
	file := compile(t, meterProto, "--include_imports")
	alone := compile(t, meterProto)
	text := filepath.Join(filepath.Dir(file), "meter.proto")
	for _, c := range []struct {
		o         Options
		want      string
		withAHint bool
	}{
		{Options{}, "protobuf needs a descriptor file and the full name of the message", false},
		{Options{Descriptor: file + "x", Message: "m"}, "open " + file + "x: no such file or directory", false},
		{Options{Descriptor: file, Message: "Reading"}, file + " has no message Reading", false},
		{Options{Descriptor: file, Message: "meter.v1.State"}, file + " has no message meter.v1.State", false},
		{Options{Descriptor: text, Message: "meter.v1.Reading"}, text + " is not a descriptor file", true},
		{Options{Descriptor: alone, Message: "meter.v1.Reading"}, alone + ": ", true},
	} {
		_, err := New("protobuf", c.o)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || (mqttetl.Hint(err) != "") != c.withAHint {
			t.Errorf("%+v: %v, hint %q", c.o, err, mqttetl.Hint(err))
		}
	}
}

// TestProtobufGrowth: an empty message of two bytes has all its defaults, so
// what a payload grows to is bounded.
func TestProtobufGrowth(t *testing.T) {
	file := compile(t, strings.Replace(meterProto, "Reading previous = 12;", "repeated Reading previous = 12;", 1), "--include_imports")
	dec := mustNew(t, "protobuf", Options{Descriptor: file, Message: "meter.v1.Reading"})
	_, err := all(dec, "", []byte(strings.Repeat("\x62\x00", 1<<17)))
	if text(err) != "payload is refused: "+errMemory.Error() {
		t.Errorf("%v", err)
	}
}
