package backoff

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

const (
	first = 100 * time.Millisecond
	most  = 2 * time.Second
)

func TestDelay(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: first, 1: first, 2: 2 * first, 5: 16 * first, 6: most, 15: most, 16: most, 1 << 30: most,
	} {
		for range 100 {
			if d := Delay(first, most, failures); d > want || d < want/2 {
				t.Fatalf("after %d failures: %s, want %s to %s", failures, d, want/2, want)
			}
		}
	}
}

func TestWaitDoublesUntilReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := Backoff{First: first, Most: most}
		wait := func() time.Duration {
			began := time.Now()
			if !b.Wait(t.Context()) {
				t.Fatal("the context has not ended")
			}
			return time.Since(began)
		}
		for range 9 {
			wait()
		}
		if d := wait(); d < most/2 || d > most {
			t.Errorf("the tenth wait lasts %s", d)
		}
		b.Reset()
		if d := wait(); d > first {
			t.Errorf("the first wait after Reset lasts %s", d)
		}
	})
}

func TestContextEndsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if Pause(ctx, time.Hour) || time.Since(began) != time.Second {
			t.Errorf("it ends after %s", time.Since(began))
		}
	})
}
