package archive

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// A process that holds a snapshot of the archive is told with its number, and is
// no longer told once it has ended.
func TestWhoKeepsTheWriteAheadLogIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	a := mustOpen(t, path)
	seq := mqttetl.Seq(0)
	add := func(bytes int) {
		for n := 0; n < bytes; n += 4 << 20 {
			seq++
			must(t, a.Append([]mqttetl.Record{record(seq, "t", strings.Repeat("p", 4<<20))}))
			must(t, a.Commit())
		}
	}
	add(4 << 20)
	reader := exec.Command("sqlite3", path)
	in, err := reader.StdinPipe()
	must(t, err)
	out, err := reader.StdoutPipe()
	must(t, err)
	must(t, reader.Start())
	defer reader.Process.Kill()
	_, err = fmt.Fprintln(in, "BEGIN; SELECT seq FROM messages;")
	must(t, err)
	_, err = out.Read(make([]byte, 16)) // it has its snapshot
	must(t, err)

	add(96 << 20)
	w := a.pending()
	if w.Bytes < 90<<20 || w.Kept == 0 || !strings.Contains(w.Held, fmt.Sprintf("process %d (sqlite3 ", reader.Process.Pid)) {
		t.Errorf("held: %+v, want process %d", w, reader.Process.Pid)
	}
	must(t, in.Close())
	must(t, reader.Wait())
	add(24 << 20)
	now := a.pending()
	if st, err := os.Stat(path + walSuffix); now.Held != "" || now.Bytes > walMax || err != nil || st.Size() != now.Bytes {
		t.Errorf("after it has ended: %+v", now)
	}
}
