package doctor

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// What to do is about what is wrong.
func TestAdviceOfAnError(t *testing.T) {
	var denied doctor
	denied.failed("log", "commit time", "", &os.PathError{Op: "open", Path: "x", Err: syscall.EACCES})
	if got := denied.findings[0].Advice; !strings.Contains(got, "as the user of the service") {
		t.Errorf("permission denied: %s", got)
	}
}
