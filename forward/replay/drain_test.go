package replay

import (
	"testing"

	"github.com/mqttetl/mqttetl"
)

// Drain, which needs the lock, cannot return between a message's leaving the
// window and its being confirmed: the account and the position would end short.
func TestConfirmedBeforeDrainReturns(t *testing.T) {
	n := 0
	j := &JetStream{open: true, window: []mqttetl.Record{{Seq: 1}, {Seq: 2}}, changed: make(chan struct{})}
	j.confirmed = func(mqttetl.Seq, int) {
		n++
		if j.mu.TryLock() {
			t.Error("JetStream: Drain may return now")
		}
	}
	streamLog{j}.Commit(1)
	if next, err := (streamLog{j}).Seek(2); next != 3 || err != nil {
		t.Errorf("Seek: %d, %v", next, err)
	}
	m := &MQTT{flight: []inFlight{{seq: 1, answered: true}}, changed: make(chan struct{}, 1)}
	m.confirmed = func(mqttetl.Seq, int) {
		n++
		if m.mu.TryLock() {
			t.Error("MQTT: Drain may return now")
		}
	}
	m.advance()
	if n != 3 {
		t.Errorf("%d calls", n)
	}
}
