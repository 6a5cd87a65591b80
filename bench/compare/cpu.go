package compare

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// processTime is the processor time of a process, 0 is this one, user and
// system, of all its threads: its CPU clock, made as clock_getcpuclockid(3)
// makes it.
func processTime(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}
