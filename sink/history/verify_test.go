package history

import (
	"slices"
	"testing"
)

// An archive beside an older copy of its log, and one beside another log.
func TestVerifyComparesTheArchiveWithItsLog(t *testing.T) {
	a := ArchiveVerdict{Cursor: 9}
	a.compare("aa", "aa", 9)
	if len(a.Damage) > 0 {
		t.Errorf("caught up is damage: %q", a.Damage)
	}
	a.compare("aa", "aa", 7)
	a.compare("aa", "bb", 9)
	want := []string{"record 9: the cursor is ahead of the last record of the log, 7", "record 9: filled from log aa, the log is bb"}
	if !slices.Equal(a.Damage, want) {
		t.Errorf("%q", a.Damage)
	}
}
