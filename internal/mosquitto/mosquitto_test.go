package mosquitto

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// options are those of a command below another, with a topic as pub and sub have it.
func options(t *testing.T) *Options {
	t.Helper()
	root, cmd := &cobra.Command{Use: "mqttetl"}, &cobra.Command{Use: "pub"}
	root.AddCommand(cmd)
	o := New(cmd, func(_ *cobra.Command, err error) error { return err })
	cmd.Flags().StringP("topic", "t", "", "")
	return o
}

// parsed are the options of a command line, without a file of defaults.
func parsed(t *testing.T, line string) (*Options, error) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	o := options(t)
	return o, o.Parse(strings.Fields(line))
}

// TestTarget: which broker, and which topic of -L.
func TestTarget(t *testing.T) {
	for line, want := range map[string]string{
		"":                                     "mqtt://localhost:1883 ",
		"-h broker -p 1884":                    "mqtt://broker:1884 ",
		"-H broker":                            "mqtt://broker:1883 ",
		"-h ::1":                               "mqtt://[::1]:1883 ",
		"-p 8883":                              "mqtts://localhost:8883 ",
		"-p 8883 --no-tls":                     "mqtt://localhost:8883 ",
		"--tls-use-os-certs -h broker":         "mqtts://broker:8883 ",
		"--ws":                                 "ws://localhost:80/mqtt ",
		"--ws --ws-path /x --tls-use-os-certs": "wss://localhost:443/x ",
		"-L mqtt://broker/a/b/#":               "mqtt://broker:1883 a/b/#",
		"-L mqtts://me:secret@broker/a":        "mqtts://me:secret@broker:8883 a",
		"-L ws://broker":                       "ws://broker:80/mqtt ",
	} {
		o, err := parsed(t, line)
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		u, topic, err := o.Target()
		if err != nil || u.String()+" "+topic != want {
			t.Errorf("%q: %q, %v, want %q", line, u.String()+" "+topic, err, want)
		}
	}
}

// TestRefusedLines: what cannot be is said in words of the command line.
func TestRefusedLines(t *testing.T) {
	for line, want := range map[string]string{
		"-i a -I b":                  "-i and -I exclude one another",
		"-c":                         "-c needs a client id",
		"-P secret":                  "-P without -u needs MQTT 5",
		"-p 70000":                   "-p must be 1 to 65535",
		"-h mqtt://broker":           "-L takes a URL",
		"-h broker:1883":             "-p takes the port",
		"-k 2":                       "-k must be 0 or 5 to 65535",
		"--cert a":                   "--cert and --key need one another",
		"--will-payload x":           "a will needs --will-topic",
		"--unix s --ws":              "--unix excludes",
		"--tls-version tlsv1.1":      "must be tlsv1.2 or tlsv1.3",
		"--psk 00":                   "no pre-shared keys here",
		"--ciphers x":                "no choice of ciphers here",
		"-S":                         "no SRV look-up here",
		"-x 5 -V 3.1.1":              "--session-expiry-interval needs MQTT 5",
		"-x -1":                      "a session without end needs a client id",
		"-D publish content-type":    "want packet, name and value",
		"-D publish no-such-thing x": "no-such-thing",
		"extra":                      `unexpected argument "extra"; -t names a topic`,
		"-o":                         "flag needs an argument",
		"-o=file":                    "must be an argument of its own",
	} {
		if _, err := parsed(t, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
	o, err := parsed(t, "-L mqtt://a -h b")
	if err == nil {
		_, _, err = o.Target()
	}
	if err == nil || err.Error() != "-L excludes -h and -p" {
		t.Errorf("-L and -h: %v", err)
	}
}

// TestAliases: the names of MQTTX, the Lua tools, and -h alone.
func TestAliases(t *testing.T) {
	o, err := parsed(t, "--hostname broker --client-id me --password p --username u --will_message bye --will-topic w --will_retain true --protocol-version 5")
	if err != nil {
		t.Fatal(err)
	}
	if o.host != "broker" || o.ID != "me" || o.password != "p" || string(o.will.Payload) != "bye" || !o.will.Retain || o.version.String() != "5" {
		t.Errorf("%+v", o)
	}
	if o, err := parsed(t, "-h"); err != nil || !o.Help {
		t.Errorf("-h alone: %v, %v", o.Help, err)
	}
	o = options(t)
	o.HostArgument = true
	if err := o.Parse([]string{"broker"}); err != nil || o.host != "broker" {
		t.Errorf("a host as the argument: %q, %v", o.host, err)
	}
}

// TestProperties: -D takes the words that follow, and not the value of another option.
func TestProperties(t *testing.T) {
	o := options(t)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	err := o.Parse([]string{"-t", "-D", "-D", "publish", "user-property", "my name", "a value", "-D", "connect", "receive-maximum", "7", "-d"})
	if err != nil {
		t.Fatal(err)
	}
	if topic, _ := o.cmd.Flags().GetString("topic"); topic != "-D" || !o.Debug {
		t.Errorf("topic %q, debug %v", topic, o.Debug)
	}
	if n, ok := o.Property(wire.ForConnect).Number("receive-maximum"); !ok || n != 7 {
		t.Errorf("receive-maximum %d, %v", n, ok)
	}
	if !strings.Contains(string(o.Property(wire.ForPublish)), "my name") || o.version.String() != "5" {
		t.Errorf("properties of PUBLISH %q, version %s", o.Property(wire.ForPublish), &o.version)
	}
}

// TestOptionFiles: a file of defaults gives way to the command line, and says which
// line is wrong.
func TestOptionFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("mqttetl/defaults", "# everywhere\n-h broker\n-p 1999\n-d\n")
	more := write("more", "-t a b\n-D publish user-property k v\n")
	o := options(t)
	if err := o.Parse([]string{"-p", "2000", "-o", more}); err != nil {
		t.Fatal(err)
	}
	u, _, err := o.Target()
	if topic, _ := o.cmd.Flags().GetString("topic"); err != nil || u.Host != "broker:2000" || !o.Debug || topic != "a b" {
		t.Errorf("%v, topic %q, debug %v, %v", u, topic, o.Debug, err)
	}
	o = options(t)
	if err := o.Parse([]string{"-L", "mqtt://other"}); err != nil {
		t.Fatal(err)
	}
	if u, _, err := o.Target(); err != nil || u.Host != "other:1883" {
		t.Errorf("-L after defaults: %v, %v", u, err)
	}
	for text, want := range map[string]string{
		"--nothing 1\n": ":1: unknown option --nothing", "\n-d yes\n": ":2: -d takes no value", "-o x\n": ":1: -o is not possible in a file",
	} {
		write("mqttetl/defaults", text)
		if err := options(t).Parse(nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
