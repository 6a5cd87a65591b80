package reporters

import (
	"runtime"
	"testing"
	"time"
)

// TestMemoryIsGivenBack: what a burst has taken goes back to the system while
// nothing is allocated.
func TestMemoryIsGivenBack(t *testing.T) {
	m := &Memory{look: time.Millisecond, spare: 64 << 20}
	m.giveBack()
	before := held()
	burst := make([]byte, 300<<20)
	for i := 0; i < len(burst); i += 4096 {
		burst[i] = 1
	}
	if got := held(); got < before+250<<20 {
		t.Fatalf("%d bytes held with the burst, %d before", got, before)
	}
	runtime.KeepAlive(burst)
	burst = nil
	m.giveBack()
	if got := held(); got > before+64<<20 {
		t.Errorf("%d bytes are still held, %d before", got, before)
	}
}
