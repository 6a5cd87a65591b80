package decode

import (
	"encoding/json"
	"testing"
)

// device is what a Zigbee2MQTT sensor sends, 128 bytes.
const device = `{"battery":97,"humidity":45.2,"last_seen":"2026-01-05T20:52:56+01:00","linkquality":120,"pressure":1013,"temperature":21.53,"v":3}`

func BenchmarkExtract(b *testing.B) {
	paths := mustPaths(b, `.temperature`, `.humidity`, `.battery?`)
	x, out := NewExtractor(paths), make([]Value, len(paths))
	payload := []byte(device)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Extract(payload, out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExtractAndConvert(b *testing.B) {
	paths := mustPaths(b, `.temperature`, `.humidity`, `.battery?`)
	x, out := NewExtractor(paths), make([]Value, len(paths))
	payload := []byte(device)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Extract(payload, out); err != nil {
			b.Fatal(err)
		}
		for i := range out {
			if _, err := out[i].Float64(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkTree(b *testing.B) {
	d, payload := mustNew(b, "json", Options{}), []byte(device)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode("", payload, func(any) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkValid is the yardstick.
func BenchmarkValid(b *testing.B) {
	payload := []byte(device)
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		if !json.Valid(payload) {
			b.Fatal()
		}
	}
}
