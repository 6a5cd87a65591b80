package compare

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// pace is when a publisher sends.
type pace struct {
	stopped *atomic.Bool // by the end of the time, or by a failure elsewhere

	// In open loop message i is to be sent at start + offset + i*every, whatever
	// has become of those before it. every 0: as fast as the window allows.
	every  int64
	count  uint32 // messages that are due within the duration, all of which are sent, late or not
	offset int64
	start  *int64 // Unix nanoseconds, set before the publishers begin
	exact  bool   // sleep on a thread of its own: the runtime's timers are too coarse
}

// due is when message i is to be sent, in open loop.
func (p *pace) due(i uint32) int64 { return *p.start + p.offset + int64(i)*p.every }

// begin is called by the goroutine that publishes, and end when it is done.
func (p *pace) begin() {
	if p.exact {
		runtime.LockOSThread()
	}
}

func (p *pace) end() {
	if p.exact {
		runtime.UnlockOSThread()
	}
}

// pause is how long a publisher may sleep without a look at stopped.
const pause = 50 * time.Millisecond

// wait sleeps until message i is due and returns how many are due by now, 0
// when it is over. In closed loop that is any number, at once.
func (p *pace) wait(i uint32) int {
	for {
		if p.stopped.Load() || p.every > 0 && i >= p.count {
			return 0
		}
		if p.every == 0 {
			return 1 << 20
		}
		t := now()
		early := p.due(i) - t
		if early <= 0 {
			return int(min(1-early/p.every, int64(p.count-i)))
		}
		early = min(early, int64(pause))
		if p.exact {
			span := unix.NsecToTimespec(early)
			_ = unix.Nanosleep(&span, nil) // woken early by a signal: it looks again
		} else {
			time.Sleep(time.Duration(early))
		}
	}
}
