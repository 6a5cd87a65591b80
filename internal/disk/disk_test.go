package disk

import (
	"math"
	"testing"

	"golang.org/x/sys/unix"
)

// File systems over a network say that they have 8 or 16 EiB, and blocks may be
// counted in other units than those for a good transfer.
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		blocks, free uint64
		frsize       int64
		wantSize     int64
		wantFree     int64
	}{
		{1000, 10, 4096, 4_096_000, 40_960},
		{1000, 0, 4096, 4_096_000, 0},
		{1 << 43, 1<<43 - 1, 1 << 20, Unlimited, 1<<63 - 1<<20},
		{math.MaxUint64, math.MaxUint64, 4096, Unlimited, Unlimited},
		{1 << 52, 1 << 52, 4096, Unlimited, Unlimited},
		{0, 0, 4096, Unlimited, Unlimited},
	} {
		fs := unix.Statfs_t{Blocks: c.blocks, Bavail: c.free, Bsize: 1 << 17, Frsize: c.frsize}
		if Size(&fs) != c.wantSize || Free(&fs) != c.wantFree {
			t.Errorf("%+v: %d and %d free", c, Size(&fs), Free(&fs))
		}
	}
}
