//go:build !race

package embedded

import (
	"fmt"
	"os"
	"testing"
)

// What reads the CPU's use finds no file, and a name as long as that which it may have half read.
func TestCPUIsNotSampled(t *testing.T) {
	if was := fmt.Sprintf("/proc/%d/stat", os.Getpid()); len(procStatFile) != len(was) {
		t.Errorf("%q is not as long as %q", procStatFile, was)
	}
	if _, err := os.ReadFile(procStatFile); !os.IsNotExist(err) {
		t.Errorf("%q: %v, want that it is not there", procStatFile, err)
	}
}
