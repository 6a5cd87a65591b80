package session

import (
	"bytes"
	"testing"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// What plainPublish takes is what the general way makes of it.
func FuzzPlainPublish(f *testing.F) {
	for _, v5 := range []bool{false, true} {
		f.Add(publishFrame(v5, 2, 1, "a", nil, nil), v5)
		f.Add(publishFrame(v5, 2, 0xffff, "a/b", nil, []byte("payload")), v5)
		f.Add(publishFrame(v5, 2, 1, "long", nil, make([]byte, 1000)), v5)
		f.Add([]byte{plainFirst, 0x86, 0, 0, 1, 'a', 0, 1, 0}, v5)
	}
	f.Fuzz(func(t *testing.T, p []byte, v5 bool) {
		topic, payload, id, size := plainPublish(p, v5)
		if size == 0 {
			return
		}
		first, head, remaining, err := wire.FixedHeader(p)
		if err != nil || head+remaining != size || publishFlags(first) != 1 {
			t.Fatalf("size %d; fixed header of %d bytes for %d, first byte %x, %v", size, head, remaining, first, err)
		}
		h, need, err := wire.PublishHead(first, remaining, p[head:size], wire.Limits{V5: v5})
		if err != nil || need > 0 || len(h.Props) > 0 || h.Topic[0] == '$' {
			t.Fatalf("not plain: %+v, need %d, %v", h, need, err)
		}
		if h.ID != id || !bytes.Equal(h.Topic, topic) || !bytes.Equal(p[head+h.Size:size], payload) {
			t.Fatalf("%d %q %q, but %+v", id, topic, payload, h)
		}
	})
}

func TestPlainPublish(t *testing.T) {
	broken := func(at int, to byte) []byte {
		p := publishFrame(true, 2, 1, "a/b", nil, []byte("payload"))
		p[at] = to
		return p
	}
	for name, c := range map[string]struct {
		frame []byte
		plain bool
	}{
		"plain":             {publishFrame(true, 2, 1, "a/b", nil, []byte("payload")), true},
		"empty payload":     {publishFrame(true, 2, 1, "a/b", nil, nil), true},
		"longest":           {publishFrame(true, 2, 1, "a/b", nil, make([]byte, 1<<14-1-8)), true},
		"longer":            {publishFrame(true, 2, 1, "a/b", nil, make([]byte, 1<<14-8)), false},
		"QoS 0":             {publishFrame(true, 0, 0, "a/b", nil, nil), false},
		"QoS 2":             {publishFrame(true, 4, 1, "a/b", nil, nil), false},
		"DUP":               {publishFrame(true, 10, 1, "a/b", nil, nil), false},
		"RETAIN":            {publishFrame(true, 3, 1, "a/b", nil, nil), false},
		"id 0":              {publishFrame(true, 2, 0, "a/b", nil, nil), false},
		"empty topic":       {publishFrame(true, 2, 1, "", nil, nil), false},
		"the broker's own":  {publishFrame(true, 2, 1, "$SYS/broker/publish/messages/dropped", nil, []byte("1")), false},
		"properties":        {publishFrame(true, 2, 1, "a/b", []byte{1, 1}, nil), false},
		"topic beyond":      {broken(3, 200), false},
		"topic to the end":  {broken(3, 13), false},
		"properties beyond": {broken(9, 100), false},
		"unfinished":        {broken(1, 16), false},
		"another packet":    {[]byte{wire.Pingresp << 4, 0}, false},
		"nothing":           {nil, false},
	} {
		if _, _, _, size := plainPublish(c.frame, true); size != 0 && size != len(c.frame) || (size != 0) != c.plain {
			t.Errorf("%s: size %d of %d", name, size, len(c.frame))
		}
	}
}
