package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/sink/history"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// fill makes the log of a site with n records of 1000 bytes.
func fill(t *testing.T, s site, n int) {
	t.Helper()
	l, err := wal.Open(s.logDir(), wal.Options{Consumers: []string{pipeline.Archive, pipeline.Forward}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { ended <- l.Run(ctx) }()
	for i := range n {
		done := make(chan error, 1)
		b := &mqttetl.Batch{Source: "plant", Done: func(_ mqttetl.Seq, err error) { done <- err }}
		b.Append(1, mqttetl.Message{Topic: []byte("a"), Payload: fmt.Appendf(nil, "record %d %1000d", i, i)})
		l.Append(b)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsDamageAndSurvivesIt(t *testing.T) {
	t.Parallel()
	const page = 4096
	overwrite := func(from, to int, with byte) func([]byte) []byte {
		return func(b []byte) []byte {
			for i := from; i < min(to, len(b)); i++ {
				b[i] = with
			}
			return b
		}
	}
	for name, damage := range map[string]func([]byte) []byte{
		"a flipped bit in a payload": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("record 50 "), []byte("record 5O ")) },
		"zeroed pages":               overwrite(2*page, 1<<30, 0),
		"pages of ones":              overwrite(2*page, 1<<30, 0xff),
		"cut off":                    func(b []byte) []byte { return b[:3*page] },
		"no meta pages":              overwrite(0, 2*page, 0),
		"not a log at all":           func([]byte) []byte { return []byte("hello") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "", "")
			fill(t, s, 100)
			path := filepath.Join(s.logDir(), "data.mdb")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			r := call(t, "verify", "-c", s.config)
			var v history.Verdict
			if err := json.Unmarshal([]byte(r.out), &v); err != nil || r.code != exitDamaged || v.Intact || len(v.Log.Damage) == 0 {
				t.Errorf("exit %d, %v\n%s%s", r.code, err, r.out, r.err)
			}
			if !strings.HasPrefix(r.err, "mqttetl: verify: damaged in ") || strings.Contains(r.err, " 1 places") || !strings.Contains(r.err, "\nhint: ") {
				t.Errorf("%s", r.err)
			}
		})
	}
}

func TestVerifyOfAnIntactLogChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	fill(t, s, 100)
	path := filepath.Join(s.logDir(), "data.mdb")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := call(t, "verify", "-c", s.config)
	if want := `{"intact":true,"log":{"first":1,"last":100,"records":100,"damage":[]}}` + "\n"; r.code != 0 || r.out != want || r.err != "" {
		t.Errorf("exit %d\n%s%swant\n%s", r.code, r.out, r.err, want)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(after) != string(before) {
		t.Errorf("the log has changed, %v", err)
	}
	if _, err := os.Stat(s.archive()); !os.IsNotExist(err) {
		t.Errorf("verify has made an archive: %v", err)
	}
}

func TestVerifyWithoutALog(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	if r := call(t, "verify", "-c", s.config); r.code != exitIO || r.out != "" || !strings.HasPrefix(r.err, "mqttetl: open log "+s.logDir()+": ") {
		t.Errorf("exit %d\n%s%s", r.code, r.out, r.err)
	}
}

// An archive that is there and cannot be read, as another user's, is no damage
// and nothing that comes back by itself.
func TestVerifyOfAnArchiveThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newSite(t, "", "")
	fill(t, s, 1)
	if err := os.Symlink(s.archive(), s.archive()); err != nil {
		t.Fatal(err)
	}
	r := call(t, "verify", "-c", s.config)
	if r.code != exitIO || !strings.HasPrefix(r.err, "mqttetl: archive: open "+s.archive()) || !strings.Contains(r.err, "\nhint: read it as root") {
		t.Errorf("exit %d\n%s", r.code, r.err)
	}
}

// A reading process that a damaged file has killed: what it had told counts.
func TestVerifyReportsACrashWithThePosition(t *testing.T) {
	t.Parallel()
	all := readFindings(json.NewDecoder(strings.NewReader("{\"at\":7}\n{\"archive\":{\"cursor\":3,\"gaps\":[],\"damage\":[\"x\"]}}\n{\"at\":9}\n{\"lo")))
	if all.At != 9 || all.Archive == nil || all.Archive.Cursor != 3 || all.Log != nil {
		t.Errorf("%+v", all)
	}
	for signal, want := range map[syscall.Signal]bool{syscall.SIGBUS: true, syscall.SIGSEGV: true, syscall.SIGABRT: true, syscall.SIGKILL: false} {
		s := newSite(t, "", "")
		p := start(t, nil, "run", "-c", s.config)
		eventually(t, "it runs", func() bool { code, _ := s.get("/healthz"); return code == 200 })
		if err := p.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		<-p.done
		if got := crashed(p.ProcessState); got != want {
			t.Errorf("%v: crashed says %v (%v)", signal, got, p.ProcessState)
		}
		if name := crash(p.err.String(), p.ProcessState); want && !strings.HasPrefix(name, "SIG") {
			t.Errorf("%v is reported as %s", signal, name)
		}
	}
}
