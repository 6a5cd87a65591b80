package main

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/mqttetl/mqttetl/internal/wire"
)

func TestConnect(t *testing.T) {
	for _, c := range []struct {
		version byte
		most    int
		want    int
	}{{5, 900, 900}, {5, 65535, 65535}, {4, 900, 65535}} {
		in := newInput(bytes.NewReader(connectPacket("me", c.version, c.most)), 16)
		body, err := in.awaitType(wire.Connect)
		if err != nil {
			t.Fatal(err)
		}
		l, err := wire.ReadConnect(body)
		version, most := l.Version, receiveMaximum(&l)
		if err != nil || version != c.version || most != c.want {
			t.Errorf("version %d, receive maximum %d: read as %d, %d: %v", c.version, c.most, version, most, err)
		}
	}
}

func TestSubscribe(t *testing.T) {
	for _, version := range []byte{4, 5} {
		in := newInput(bytes.NewReader(subscribePacket("a/#", version)), 16)
		body, err := in.awaitType(wire.Subscribe)
		if err != nil {
			t.Fatal(err)
		}
		filters, suback, err := grant(body, version)
		if err != nil || len(filters) != 1 || filters[0] != "a/#" {
			t.Errorf("version %d: filters %q: %v", version, filters, err)
		}
		in = newInput(bytes.NewReader(suback), 16)
		if body, err := in.awaitType(wire.Suback); err != nil || body[len(body)-1] != 1 {
			t.Errorf("version %d: SUBACK % x: %v", version, body, err)
		}
	}
}

// FuzzPacket: whatever is sent, packets lie within it and end.
func FuzzPacket(f *testing.F) {
	f.Add(publishPacket("a", []byte("b"), 5))
	f.Add(append(connectPacket("me", 5, 20), subscribePacket("#", 5)...))
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add(binary.AppendUvarint([]byte{0x30}, 1<<28))
	f.Fuzz(func(t *testing.T, sent []byte) {
		in := newInput(bytes.NewReader(sent), 8)
		used := 0
		for {
			first, body, err := in.await()
			if err != nil {
				return
			}
			if used += 2 + len(body); used > len(sent) {
				t.Fatalf("packets of %d bytes in %d", used, len(sent))
			}
			switch first >> 4 {
			case wire.Connect:
				wire.ReadConnect(body)
			case wire.Subscribe:
				grant(body, 4)
				grant(body, 5)
			}
		}
	})
}
