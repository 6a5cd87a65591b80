package main

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestConnect(t *testing.T) {
	for _, c := range []struct {
		version byte
		most    int
		want    int
	}{{5, 900, 900}, {5, 65535, 65535}, {4, 900, 65535}} {
		in := newInput(bytes.NewReader(connectPacket("me", c.version, c.most)), 16)
		body, err := in.awaitType(typeConnect)
		if err != nil {
			t.Fatal(err)
		}
		version, most, err := parseConnect(body)
		if err != nil || version != c.version || most != c.want {
			t.Errorf("version %d, receive maximum %d: read as %d, %d: %v", c.version, c.most, version, most, err)
		}
	}
}

func TestSubscribe(t *testing.T) {
	for _, version := range []byte{4, 5} {
		in := newInput(bytes.NewReader(subscribePacket("a/#", version)), 16)
		body, err := in.awaitType(typeSubscribe)
		if err != nil {
			t.Fatal(err)
		}
		filters, suback, err := parseSubscribe(body, version)
		if err != nil || len(filters) != 1 || filters[0] != "a/#" {
			t.Errorf("version %d: filters %q: %v", version, filters, err)
		}
		in = newInput(bytes.NewReader(suback), 16)
		if body, err := in.awaitType(typeSuback); err != nil || body[len(body)-1] != 1 {
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
			case typeConnect:
				parseConnect(body)
			case typeSubscribe:
				parseSubscribe(body, 4)
				parseSubscribe(body, 5)
			}
		}
	})
}
