package natsmsg

import (
	"bytes"
	"math"
	"testing"
)

// FuzzFrame: what is written is read back, whole or in pieces, and what others write
// ends with a frame or a refusal.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("a.b"), "", []byte(nil), []byte("hello"))
	f.Add([]byte("a"), "_INBOX.1", []byte("NATS/1.0\r\n\r\n"), []byte("he\r\no"))
	f.Add([]byte("HPUB a 99999999999999999999 1"), "x", []byte("MSG "), []byte("HMSG a 1 5 3\r\nabc\r\n"))
	f.Fuzz(func(t *testing.T, subject []byte, reply string, header, body []byte) {
		for p := body; len(p) > 0; {
			frame, size, ok := ReadFrame(p)
			if size < 0 || size > len(p) || len(frame.Header)+len(frame.Body) > len(p) {
				t.Fatalf("%q: a frame of %d bytes", p, size)
			}
			if size == 0 || !ok {
				break
			}
			p = p[size:]
		}
		if len(subject) == 0 || bytes.ContainsAny(subject, " \r\n") || bytes.ContainsAny([]byte(reply), " \r\n") {
			return
		}
		var w Framer
		m := &Message{string(subject), string(header), body}
		one := w.AppendPub(nil, m, reply)
		two := w.AppendPub(bytes.Clone(one), m, reply) // by what it remembers
		for _, p := range [][]byte{two[:len(one)], two[len(one):]} {
			frame, size, ok := ReadFrame(p)
			if !ok || size != len(p) || !frame.Message || !bytes.Equal(frame.Header, header) || !bytes.Equal(frame.Body, body) {
				t.Fatalf("%q is read as %+v, %d bytes, %v", p, frame, size, ok)
			}
			for n := range min(len(p), 100) {
				if _, size, ok := ReadFrame(p[:n]); size != 0 || !ok {
					t.Fatalf("%q is read as a frame of %d bytes, %v", p[:n], size, ok)
				}
			}
		}
		m.Body = append(bytes.Clone(body), 'x') // which is not as long as the one before
		if frame, _, ok := ReadFrame(w.AppendPub(nil, m, reply)); !ok || !bytes.Equal(frame.Body, m.Body) {
			t.Fatalf("a longer message is read as %+v, %v", frame, ok)
		}
		if frame, size, ok := ReadFrame(AppendMsg(nil, subject, []byte("1"), body)); !ok || size == 0 || !bytes.Equal(frame.Body, body) {
			t.Fatalf("MSG is read as %+v, %v", frame, ok)
		}
	})
}

func TestSizes(t *testing.T) {
	for line, want := range map[string]struct {
		header, total int
		message, ok   bool
	}{
		"PING":                               {0, 0, false, true},
		"INFO {}":                            {0, 0, false, true},
		"PUB a 5":                            {0, 5, true, true},
		"PUB a b 5":                          {0, 5, true, true},
		"HPUB a 12 17":                       {12, 17, true, true},
		"MSG a 1 0":                          {0, 0, true, true},
		"HMSG a 1 12 12":                     {12, 12, true, true},
		"HMSG a 1 13 12":                     {0, 0, true, false},
		"MSG a 1 -5":                         {0, 0, true, false},
		"MSG a 1 5\t6":                       {0, 0, true, false},
		"MSG":                                {0, 0, true, false},
		"MSG ":                               {0, 0, true, false},
		"MSG a 1 99999999999999999999999999": {0, math.MaxInt / 10, true, true},
	} {
		header, total, message, ok := Sizes([]byte(line))
		if ok && total > math.MaxInt/100 {
			total = math.MaxInt / 10
		}
		if header != want.header || total != want.total || message != want.message || ok != want.ok {
			t.Errorf("%q: %d, %d, %v, %v, want %+v", line, header, total, message, ok, want)
		}
	}
}
