package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// appendUser appends a user property in the encoding of the wire.
func appendUser(p mqttetl.Properties, name, value string) mqttetl.Properties {
	p = append(p, byte(mqttetl.UserProperty))
	p = append(binary.BigEndian.AppendUint16(p, uint16(len(name))), name...)
	return append(binary.BigEndian.AppendUint16(p, uint16(len(value))), value...)
}

// wantUsers fails unless the headers hold the user properties, byte for byte
// and, for one name, in their order.
func wantUsers(t *testing.T, h nats.Header, p mqttetl.Properties) {
	t.Helper()
	want := map[string][]string{}
	for v := range p.All() {
		if v.ID == mqttetl.UserProperty {
			want[string(v.Name)] = append(want[string(v.Name)], string(v.Value))
		}
	}
	got := map[string][]string{}
	for name, values := range h {
		rest, ok := strings.CutPrefix(name, natsmsg.HeaderUser)
		if !ok {
			continue
		}
		n, err := natsmsg.UnescapeHeader(rest)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			u, err := natsmsg.UnescapeHeader(v)
			if err != nil {
				t.Fatal(err)
			}
			got[string(n)] = append(got[string(n)], string(u))
		}
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("user properties\n%.300q, want\n%.300q", fmt.Sprint(got), fmt.Sprint(want))
	}
}

// What may exceed a limit is always taken for large: sendOne relies on it.
func TestLargeCoversExceeded(t *testing.T) {
	c := natsmsg.Encoder{Prefix: "mqtt", LogID: testLogID}
	for _, l := range []limits{{1 << 20, -1, -1}, {1 << 20, 300, -1}, {1 << 20, -1, 400}, {200, -1, -1}} {
		for size := 1; size < 1<<17; size = size*3/2 + 1 {
			for _, rec := range []mqttetl.Record{
				{Message: mqttetl.Message{Payload: make([]byte, size)}},
				{Message: mqttetl.Message{Topic: bytes.Repeat([]byte{0xff}, min(size, 65535))}},
				{Message: mqttetl.Message{Properties: appendUser(nil, strings.Repeat("\x00", min(size/2, 65535)), strings.Repeat("%", min(size/2, 65535)))}},
			} {
				if why := l.exceeded(c.EncodeAfter(&rec, natsmsg.Link{Record: 1<<64 - 1})); why != "" && !l.large(&rec) {
					t.Fatalf("limits %+v, size %d: %s, but not large", l, size, why)
				}
			}
		}
	}
}

func fieldsOf(m *natsmsg.Message) map[string][]string {
	h := map[string][]string{}
	for name, value := range m.Fields() {
		h[name] = append(h[name], value)
	}
	return h
}
