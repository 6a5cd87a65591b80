package archive

import "testing"

// Every id that a row may have is found again, an empty name too, and nothing else.
func TestDictionary(t *testing.T) {
	var d dictionary
	ids := []int64{1, 7, 0, -1, maxNames - 1, maxNames, 1<<63 - 1, -1 << 63}
	for i, id := range ids {
		if d.known(id) != nil {
			t.Errorf("%d is known before it is looked up", id)
		}
		d.enter(id, name{make([]byte, i), string(rune('a' + i)), true})
	}
	for i, id := range ids {
		if n := d.known(id); n == nil || n.text != string(rune('a'+i)) || len(n.bytes) != i {
			t.Errorf("%d is %+v", id, n)
		}
	}
	if d.known(2) != nil {
		t.Error("2 was never looked up")
	}
	for id := range int64(maxNames) {
		d.enter(maxNames+id, name{bytes: []byte{}})
	}
	if len(d.high) > maxNames {
		t.Errorf("%d entries", len(d.high))
	}
}
