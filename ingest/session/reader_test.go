package session

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// TestReader has a reader without a connection read what has come, piece by
// piece, and looks at what it hands over and what it keeps.
func TestReader(t *testing.T) {
	publish := func(flags byte, id uint16, payload string) []byte {
		return publishFrame(true, flags, id, "a", nil, []byte(payload))
	}
	huge := publish(2, 8, strings.Repeat("x", 2*longFrame))
	for name, tt := range map[string]struct {
		pieces [][]byte
		want   string // records: acknowledgements, for each batch
		rest   int    // of a long message
		fails  error
	}{
		"QoS 0":                  {[][]byte{publish(0, 0, "0")}, "0:", 0, nil},
		"QoS 1":                  {[][]byte{publish(2, 1, "1")}, "1:40020001", 0, nil},
		"two in a batch":         {[][]byte{append(publish(2, 1, "1"), publish(3, 2, "2")...)}, "1 2:4002000140020002", 0, nil},
		"in two pieces":          {[][]byte{publish(2, 1, "12")[:6], publish(2, 1, "12")[6:]}, "12:40020001", 0, nil},
		"QoS 2 wants the ids":    {[][]byte{publish(4, 1, "1")}, "", 0, errNeedIDs},
		"PUBREL wants the ids":   {[][]byte{{wire.Pubrel<<4 | 2, 2, 0, 1}}, "", 0, errNeedIDs},
		"a long one, begun":      {[][]byte{huge[:10]}, "", 2 * longFrame, nil},
		"a long one, half":       {[][]byte{huge[:longFrame], nil}, "", longFrame + 10, nil},
		"a long one and another": {[][]byte{huge[:longFrame], append(bytes.Clone(huge[longFrame:]), publish(2, 9, "9")...)}, fmt.Sprint(2*longFrame, " bytes 9:4002000840020009"), 0, nil},
		"before a long one":      {[][]byte{append(publish(2, 1, "1"), huge[:longFrame]...), huge[longFrame:]}, fmt.Sprint("1:40020001|", 2*longFrame, " bytes:40020008"), 0, nil},
		"a fault":                {[][]byte{append(publish(2, 1, "1"), wire.Publish<<4|2, 5, 0, 1, 'a', 0, 0)}, "1:40020001", 0, wire.Malformed("packet id 0 on a PUBLISH with QoS 1")},
	} {
		var got []string
		s, _ := newSession(&memory{}, nil)
		r := reader{Session: s, v5: true, control: everything{make(chan []byte, 10)}, acks: &ackQueue{}, begun: true}
		r.handOver = func(d *delivery) {
			records, err := mqttetl.DecodeRecords(nil, bytes.Clone(d.Bytes()), d.Len(), 1, "")
			if err != nil {
				t.Fatal(err)
			}
			var payloads []string
			for _, r := range records {
				payload := string(r.Payload)
				if len(payload) > 100 {
					payload = fmt.Sprint(len(payload), " bytes")
				}
				payloads = append(payloads, payload)
			}
			got = append(got, fmt.Sprintf("%s:%x", strings.Join(payloads, " "), d.acks))
			d.recycle()
		}
		var err error
		for _, p := range tt.pieces {
			if err = r.in.fill(bytes.NewReader(append(bytes.Clone(p), 0))); err != nil {
				t.Fatal(err)
			}
			r.in.w-- // the byte that makes an empty piece one
			if _, err = r.parse(); r.long.rest == 0 {
				r.close()
			}
		}
		if have := strings.Join(got, "|"); have != tt.want || r.long.rest != tt.rest || fmt.Sprint(err) != fmt.Sprint(tt.fails) && !errors.Is(err, tt.fails) {
			t.Errorf("%s: handed over %q, rest %d, error %v; want %q, %d, %v", name, have, r.long.rest, err, tt.want, tt.rest, tt.fails)
		}
		r.discard()
		if r.open != nil || r.long.rest != 0 {
			t.Errorf("%s: something is left after discard", name)
		}
	}
}

// TestReaderPauses where the control plane says so, and goes on after that packet.
func TestReaderPauses(t *testing.T) {
	s, _ := newSession(&memory{}, nil)
	control := everything{make(chan []byte, 10)}
	var batches [][]byte
	r := reader{Session: s, v5: true, control: control, acks: &ackQueue{}, begun: true,
		handOver: func(d *delivery) { batches = append(batches, bytes.Clone(d.acks)) }}
	stream := bytes.Join([][]byte{publishFrame(true, 2, 1, "a", nil, nil), {wire.Pingreq << 4, 0}, publishFrame(true, 2, 2, "a", nil, nil)}, nil)
	if err := r.in.fill(bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		pause, err := r.parse()
		r.close()
		if pause != want || err != nil || len(batches) != i+1 || !bytes.Equal(batches[i], puback(uint16(i+1))) {
			t.Errorf("round %d: pause %v, %v, batches %x", i, pause, err, batches)
		}
	}
	if got := <-control.packets; !bytes.Equal(got, []byte{wire.Pingreq << 4, 0}) {
		t.Errorf("the control plane got % x", got)
	}
}
