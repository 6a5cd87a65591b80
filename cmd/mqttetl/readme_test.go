package main

import (
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mqttetl/mqttetl/deploy"
)

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReadmeNamesEveryCommandAndFlagAndNoOther(t *testing.T) {
	text := readme(t)
	flags := map[string]bool{
		"--now": true, "--no-block": true, // systemctl's
		"--replicas": true,                                    // the nats command's
		"--hostname": true, "--ca": true, "--client-id": true, // MQTTX's words
		"--will_message": true, "--will_topic": true, "--will_qos": true, "--will_retain": true, "--topic_p": true, "--topic_s": true, // the Lua client's
	}
	// Their options are mosquitto's, which the README says instead of a list.
	mosquittos := map[string]bool{"pub": true, "sub": true, "test": true}
	visit(newRoot(streams{}), func(cmd *cobra.Command) {
		if cmd.HasParent() && !cmd.HasSubCommands() && !strings.Contains(text, "`"+cmd.CommandPath()+"`") {
			t.Errorf("README does not name %s", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" || f.Name == "version" {
				return
			}
			flags["--"+f.Name] = true
			if !mosquittos[cmd.Name()] && !strings.Contains(text, "`--"+f.Name+"`") {
				t.Errorf("README does not name --%s of %s", f.Name, cmd.CommandPath())
			}
		})
	})
	for _, name := range regexp.MustCompile(`--[a-z][a-z_-]+`).FindAllString(text, -1) {
		if !flags[name] {
			t.Errorf("README names %s, which no command has", name)
		}
	}
}

func TestReadmeTableHasTheDefaultsOfTheExample(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| `([a-z_.\\[\\]]+)`(?:, `[a-z_]+`)? \\| (?:`([^`]+)`|[^|`]+) \\|").FindAllStringSubmatch(readme(t), -1)
	if len(rows) < 24 {
		t.Fatalf("only %d rows of the configuration table were understood", len(rows))
	}
	for _, row := range rows {
		key, value := row[1][strings.LastIndex(row[1], ".")+1:], row[2]
		value = strings.ReplaceAll(value, "<name>", "default")
		if !strings.Contains(deploy.Example, key+":") {
			t.Errorf("the example has no %s", key)
		}
		if value != "" && !regexp.MustCompile(key+`: "?`+regexp.QuoteMeta(value)+`\b`).MatchString(deploy.Example) {
			t.Errorf("%s: the example's default is not %s", row[1], value)
		}
	}
}

func TestReadmeHasWhatHintsPointTo(t *testing.T) {
	heading := regexp.MustCompile(`README: ([^)]+)`).FindStringSubmatch(hintRestore)[1]
	if !strings.Contains(readme(t), "\n### "+heading+"\n") {
		t.Errorf("README has no chapter %q", heading)
	}
}

// The commands of the quick start, as a reader types them: make commands are
// what this test is started by, the rest runs here in order.
func TestReadmeCommandsWork(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o750); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "bin", "mqttetl")); err != nil {
		t.Fatal(err)
	}
	var service *osexec.Cmd
	listen := freeAddress(t)
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(readme(t), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.ReplaceAll(strings.TrimSpace(line), "127.0.0.1:9641", listen)
			switch {
			case strings.HasPrefix(line, "make "):
			case strings.HasPrefix(line, "sqlite3 demo/"): // the end of an example: it must have found something
				if out, err := inShell(dir, line).CombinedOutput(); err != nil || strings.Count(string(out), "\n") != 5 {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
			case strings.HasPrefix(line, "bin/mqttetl run "):
				ownAddresses(t, filepath.Join(dir, "mqttetl.yaml"), listen)
				service = inShell(dir, "exec "+line)
				if err := service.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- service.Wait() }()
				defer func() { service.Process.Kill(); <-ended }()
				eventually(t, "the service answers", func() bool {
					return inShell(dir, "curl -fs http://"+listen+"/healthz && test -s data/telemetry.db").Run() == nil
				})
			default:
				eventually(t, line, func() bool { return inShell(dir, line).Run() == nil })
			}
		}
	}
	if service == nil {
		t.Error("the quick start does not run the service")
	}
}

// ownAddresses makes the example leave alone what runs on this machine.
func ownAddresses(t *testing.T, path, listen string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("127.0.0.1:1883", "127.0.0.1:1", "127.0.0.1:4222", "127.0.0.1:1", "127.0.0.1:9641", listen).Replace(string(b))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func inShell(dir, line string) *osexec.Cmd {
	cmd := osexec.Command("sh", "-c", line)
	cmd.Dir = dir
	return cmd
}
