package deploy_test

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// analyze runs systemd-analyze, which needs no running systemd for this.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is missing: apt-get install systemd")
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestUnitIsClean(t *testing.T) {
	if out := analyze(t, "verify", "mqttetl.service"); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
}

func TestUnitIsHardened(t *testing.T) {
	out := analyze(t, "security", "--offline=true", "mqttetl.service")
	m := regexp.MustCompile(`Overall exposure level for mqttetl.service: ([0-9.]+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no level in\n%s", out)
	}
	if level, err := strconv.ParseFloat(m[1], 64); err != nil || level > 1.2 {
		t.Errorf("exposure level %s, want 1.2 or less", m[1])
	}
}

func TestUnitSaysWhatTheProgramReliesOn(t *testing.T) {
	unit, err := os.ReadFile("mqttetl.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"Type=notify", "Restart=always", "RestartPreventExitStatus=65 78", "StateDirectory=mqttetl", "WorkingDirectory=%S/mqttetl",
		"TimeoutStartSec=infinity", "WatchdogSec=30s", "SystemCallFilter=prlimit64",
	} {
		if !strings.Contains(string(unit), "\n"+line+"\n") {
			t.Errorf("the unit does not say %s", line)
		}
	}
}

// What the unit says about secrets must work with the variable and without.
func TestUnitSecretsHaveADefault(t *testing.T) {
	unit, err := os.ReadFile("mqttetl.service")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(unit), "password_file: ${CREDENTIALS_DIRECTORY:-/etc/mqttetl}/mqtt-password\n") ||
		!strings.Contains(string(unit), "LoadCredential=mqtt-password:/etc/mqttetl/mqtt-password\n") {
		t.Error("the unit's example of a secret needs CREDENTIALS_DIRECTORY, or names two files")
	}
}
