package mqttetl

import (
	"math"
	"testing"
)

func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1<<20 - 1: "1048575 bytes", 1 << 20: "1MiB", 3 << 19: "1.5MiB", 64 << 20: "64MiB",
		16 << 30: "16GiB", 16<<30 + 200<<20: "16.2GiB", 1 << 40: "1TiB", math.MaxInt64: "8388608TiB",
	} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
