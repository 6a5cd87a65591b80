package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
)

var balanced = regexp.MustCompile(`(?m)^published ([1-9]\d*) = acknowledged (\d+) = archived (\d+) = forwarded (\d+)$`)

func TestDemoAccountsForEveryMessage(t *testing.T) {
	t.Parallel()
	r := call(t, "demo", "--duration", "1500ms", "--devices", "30", "--rate", "600")
	if r.code != 0 || !balanced.MatchString(r.out) || strings.Count(r.out, "\n") != 1 {
		t.Fatalf("exit %d\n%s%s", r.code, r.out, r.err)
	}
	for _, line := range []string{
		`(?m)^  sqlite3 \S+/telemetry.db 'select .* from msg limit 5'$`,
		`(?m)^  nats --server nats://\S+ sub 'mqtt.>'$`,
		`(?m)^  curl http://127.0.0.1:\d+/status$`,
	} {
		if !regexp.MustCompile(line).MatchString(r.err) {
			t.Errorf("no line %s in\n%s", line, r.err)
		}
	}
	if strings.Contains(r.err, "msg/s") {
		t.Errorf("progress where there is no terminal:\n%s", r.err)
	}
	dir := regexp.MustCompile(`in (\S+)\n`).FindStringSubmatch(r.err)[1]
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the temporary directory %s stays: %v", dir, err)
	}
}

func TestDemoProgress(t *testing.T) {
	t.Parallel()
	d, err := startDemo(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	var b bytes.Buffer
	v := display{w: &b, live: true}
	v.intro(d, "x", demoFlags{})
	b.Reset()
	v.tick(d)
	if want := `^\r\x1b\[K +0 s +\d+ msg/s  commit p50 \S+.* p99 \S+.*  archive \d+ behind  nats \d+ behind$`; !regexp.MustCompile(want).MatchString(b.String()) {
		t.Errorf("%q, want %s", b.String(), want)
	}
}

// A result that nobody can read is a failure, and leaves nothing behind.
func TestDemoWhoseResultCannotBeWritten(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	reader, broken, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	for name, out := range map[string]*os.File{"a full disk": full, "a pipe without a reader": broken} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			p := prepare(t, []string{"TMPDIR=" + temp}, "demo", "--duration", "200ms", "--devices", "5", "--no-progress")
			p.Stdout = out
			p.launch(t)
			<-p.done
			if code := p.ProcessState.ExitCode(); code != exitIO || !strings.Contains(p.err.String(), "write the result: ") {
				t.Errorf("exit %d: %s", code, p.err.String())
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestDemoHints(t *testing.T) {
	t.Parallel()
	for err, hint := range map[error]string{
		mqttetl.ErrLocked: "another demo uses this --dir", os.ErrDeadlineExceeded: "fewer --devices", syscall.EMFILE: "fewer --devices",
	} {
		if got := mqttetl.Hint(demoHint(fmt.Errorf("x: %w", err))); !strings.Contains(got, hint) {
			t.Errorf("%v: %q", err, got)
		}
	}
}

func TestDemoKeepsItsDirectoryAndGoesOnInIt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "kept")
	for range 2 {
		r := call(t, "demo", "--duration", "1s", "--devices", "10", "--rate", "500", "--dir", dir, "--no-progress")
		if r.code != 0 || !strings.Contains(r.err, "mosquitto_sub -L 'mqtt://127.0.0.1:") || !balanced.MatchString(r.out) || regexp.MustCompile(`look at it|msg/s`).MatchString(r.out) {
			t.Fatalf("exit %d\n%s%s", r.code, r.out, r.err)
		}
	}
	for _, name := range []string{"log/data.mdb", "telemetry.db", "jetstream"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// At a rate that no machine reaches the devices must hold back by themselves.
func TestDemoHoldsItsWindow(t *testing.T) {
	t.Parallel()
	r := call(t, "demo", "--duration", "1s", "--devices", "200", "--rate", "10000000")
	if r.code != 0 || !balanced.MatchString(r.out) {
		t.Fatalf("exit %d\n%s%s", r.code, r.out, r.err)
	}
}

func TestDemoWhereNoDirectoryCanBe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := call(t, "demo", "--dir", file); r.code != exitIO || r.out != "" || !strings.HasPrefix(r.err, "mqttetl: mkdir "+file) {
		t.Errorf("%+v", r)
	}
}

// What somebody else publishes to the demo's broker is no fault of the account.
func TestDemoCountsOthersApart(t *testing.T) {
	t.Parallel()
	p := prepare(t, nil, "demo", "--duration", "3s", "--devices", "10", "--rate", "200", "--no-progress")
	var out bytes.Buffer
	p.Stdout, p.Stderr = &out, nil
	errs, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.launch(t)
	var address string
	for lines := bufio.NewScanner(errs); address == "" && lines.Scan(); {
		if m := regexp.MustCompile(`mosquitto_sub -L 'mqtt://127\.0\.0\.1:(\d+)/`).FindStringSubmatch(lines.Text()); m != nil {
			address = m[1]
		}
	}
	for i, qos := range []string{"0", "1", "2", "1", "0"} {
		mqttetlOut(t, 0, "pub", "-h", "127.0.0.1", "-p", address, "-t", fmt.Sprint("other/", i), "-m", "x", "-q", qos)
	}
	mqttetlOut(t, 0, "pub", "-h", "127.0.0.1", "-p", address, "-t", "$other", "-m", "x", "-q", "1") // which # does not match
	<-p.done
	if !balanced.MatchString(out.String()) || !strings.Contains(out.String(), "\nof other clients 5, archived and forwarded with them\n") || p.ProcessState.ExitCode() != 0 {
		t.Errorf("%v\n%s", p.ProcessState, out.String())
	}
}

// Who may not write the directory is told so at once.
func TestDemoInADirectoryOfAnother(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "log", "jetstream", demoArchive} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if os.Geteuid() == 0 {
				if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o777)); err != nil {
					t.Fatal(err)
				}
			}
			denied := filepath.Join(dir, name)
			var err error
			switch name {
			case "":
			case demoArchive:
				err = os.WriteFile(denied, nil, 0o644)
			default:
				err = os.Mkdir(denied, 0o755)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err = os.Chmod(denied, 0o555); err != nil {
				t.Fatal(err)
			}
			p := prepare(t, nil, "demo", "--dir", dir, "--duration", "1s", "--devices", "1")
			if os.Geteuid() == 0 { // whom no mode binds
				copied, _ := copyOf(t, p.Path)
				if err := os.Chmod(filepath.Dir(copied), 0o755); err != nil {
					t.Fatal(err)
				}
				p.Path = copied
				p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			began := time.Now()
			p.launch(t)
			<-p.done
			if code := p.ProcessState.ExitCode(); code != exitIO || !strings.Contains(p.err.String(), "permission denied\nhint: --dir must be") {
				t.Errorf("exit %d after %v: %s", code, time.Since(began), p.err.String())
			}
		})
	}
}
