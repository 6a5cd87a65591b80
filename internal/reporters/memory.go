package reporters

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How often the memory is looked at that the process holds and does not use, and
// how much of it is worth a collection.
const (
	memoryLook  = 10 * time.Second
	memorySpare = 64 << 20
)

// Memory gives back to the system what a burst has taken, such as a few messages
// of 64 MiB. The runtime collects nothing for two minutes where nothing is
// allocated, and gives back slowly.
type Memory struct {
	look  time.Duration
	spare uint64
	floor uint64 // what was held after the last look
}

// NewMemory looks every 10 seconds.
func NewMemory() *Memory { return &Memory{look: memoryLook, spare: memorySpare} }

// Run looks until ctx ends.
func (m *Memory) Run(ctx context.Context) error {
	t := time.NewTicker(m.look)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		m.giveBack()
	}
}

// giveBack collects and releases if the process holds much more than it did
// after the last time.
func (m *Memory) giveBack() {
	if held() > m.floor+m.spare {
		debug.FreeOSMemory()
		m.floor = held()
	}
	m.floor = min(m.floor, held())
}

// held is the memory of the heap that the process has from the system.
func held() uint64 {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(s)
	return s[0].Value.Uint64() + s[1].Value.Uint64() + s[2].Value.Uint64()
}
