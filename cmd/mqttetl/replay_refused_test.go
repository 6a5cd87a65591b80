package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl/test/servers"
)

// What cannot be is refused with a word on what to do, and the code that says
// whose fault it is.
func TestReplayRefusals(t *testing.T) {
	t.Parallel()
	path, dir := archiveOf(t, minute()), t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	text := "sources: [{name: a, url: \"mqtt://127.0.0.1:1\", subscribe: [\"#\"]}]\nlog: {dir: " + dir + "/log}\narchive: {path: " + dir + "/a.db}\n"
	if err := os.WriteFile(filepath.Join(dir, "empty.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	with, err := servers.StartNATSProcess(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer with.Kill()
	without, err := servers.StartNATSProcess(t.TempDir(), "jetstream: false")
	if err != nil {
		t.Fatal(err)
	}
	defer without.Kill()
	login, err := servers.StartNATSProcess(t.TempDir(), "authorization {user: u, password: p}")
	if err != nil {
		t.Fatal(err)
	}
	defer login.Kill()
	noAPI, err := servers.StartNATSProcess(t.TempDir(), `authorization {users: [{user: u, password: p, permissions: {publish: "mqtt.>"}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	defer noAPI.Kill()
	closed, err := servers.StartMosquitto(t.TempDir(), "allow_anonymous false")
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Kill()
	user := strings.Replace(closed.URL, "//", "//u:p@", 1)
	to := " --speed max --archive " + path + " --to "
	mqttetlOut(t, 0, strings.Fields("replay --limit 1 --stream HAS"+to+with.URL())...)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"replay --ca " + ca + to + "-", exitUsage, "--ca means nothing with --to -"},
		{"replay --creds x" + to + "mqtt://127.0.0.1:1", exitUsage, "--creds means nothing"},
		{"replay --qos 1" + to + "nats://127.0.0.1:1", exitUsage, "--qos means nothing"},
		{"replay --ca " + ca + to + "mqtt://127.0.0.1:1", exitUsage, "mqtts://"},
		{"replay --ca " + ca + to + "nats+ws://127.0.0.1:1", exitUsage, "nats+wss://"},
		{"replay --creds " + dir + "/none.creds" + to + with.URL(), exitIO, "none.creds"},
		{"replay --ca " + dir + "/none.pem" + to + "mqtts://127.0.0.1:1", exitIO, "none.pem"},
		{"replay --ca " + ca + to + "mqtts://127.0.0.1:1", exitIO, "--ca: read CA " + ca + ": no certificate in it"},
		{"replay --ca " + ca + to + with.URL(), exitIO, "--ca: read CA " + ca + ": no certificate in it"},
		{"simulate --count 1 --ca " + ca + " --to " + with.URL(), exitIO, "it must be PEM"},
		{"query --sql select -c " + filepath.Join(dir, "empty.yaml"), exitUnreachable, "nothing has been recorded"},
		{"replay --stream a.b" + to + with.URL(), exitUsage, "without space and ."},
		{"replay --stream HAS" + to + with.URL(), exitDamaged, "stream HAS holds records of this log up to 1 already, the replay would begin at 1\nhint: --new-ids"},
		{"replay" + to + with.URL(), exitUnreachable, "--stream HAS plays into it"},
		{"replay --subject-prefix mqtt.t" + to + with.URL(), exitUnreachable, "stream HAS takes subjects of mqtt.t.>"},
		{"replay --subject-prefix other" + to + with.URL(), exitOK, "confirmed 3001"},
		{"replay --limit 1 --new-ids" + to + with.URL(), exitOK, "confirmed 1"},
		{"replay --limit 1" + to + without.URL(), exitOK, "confirmed 1"},
		{"replay --limit 1" + to + "nats://u:p@" + noAPI.Addr(), exitOK, "confirmed 1"},
		{"replay --stream OTHER" + to + with.URL(), exitUnreachable, "--subject-prefix"},
		{"replay --stream S" + to + without.URL(), exitUnreachable, "-js"},
		{"replay" + to + login.URL(), exitLogin, "--creds"},
		{"replay" + to + "nats://127.0.0.1:1", exitUnreachable, "4222"},
		{"replay --topic-map (a)=$1x" + to + "-", exitUsage, "hint: ${1}x is group 1"},
		{"replay --topic-map a=" + to + "-", exitUsage, "the replacement is empty"},
		{"replay --topic-prefix a/+/" + to + "-", exitUsage, "--topic-prefix: \"a/+/\": a topic holds no +, # and NUL"},
		{"replay" + to + "mqtt://" + with.Addr(), exitUnreachable, "a NATS server begins like this"},
		{"replay" + to + strings.Replace(closed.URL, "mqtt:", "nats:", 1), exitUnreachable, "4222 is the usual port of NATS"},
		{"replay" + to + closed.URL, exitLogin, "user and password go into the URL: mqtt://user:password@127.0.0.1:"},
		{"replay" + to + user, exitLogin, "check user and password in mqtt://user:password@127.0.0.1:"},
		{"replay" + to + closed.URL + "/foo", exitUsage, "mqtt has no path"},
		{"replay" + to + closed.URL + "/", exitLogin, "login refused"},
		{"replay --rate 5" + to + "-", exitUsage, "--rate is a pace of its own"},
		{"replay --rate NaN --archive " + path + " --to -", exitUsage, "must be a number"},
		{"replay --rate inf --archive " + path + " --to -", exitUsage, "must be a number"},
		{"replay --speed 1e300 --archive " + path + " --to -", exitUsage, "up to 1e9"},
		{"simulate --count 1 --stream OTHER --to " + with.URL(), exitUnreachable, "--subject-prefix"},
		{"simulate --count 1 --creds " + dir + "/none.creds --to " + with.URL(), exitIO, "none.creds"},
		{"replay --to - --archive " + dir, exitIO, "is a directory"},
		{"export --archive " + dir + "/none.db", exitIO, "archive.path"},
		{"query --archive " + dir + "/none.db", exitIO, "archive.path"},
		{"tail --archive " + dir, exitIO, "is a directory"},
		{"dead-letters --archive " + dir + "/none.db", exitIO, "archive.path"},
		{"export --out " + dir + " --archive " + path, exitUsage, "is a directory"},
		{"query --archive " + filepath.Join(dir, "empty.yaml"), exitDamaged, "is no SQLite file\nhint: name"},
		{"query --sql= --archive " + path, exitUsage, "which statement?"},
		{"query --sql vacuum --archive " + path, exitUsage, "must be one of select"},
		{"query --sql select(1);select(2) --archive " + path, exitUsage, "one statement"},
		{"repaly" + to + "-", exitUsage, "did you mean \"replay\"?"},
		{"replay --speeed 1" + to + "-", exitUsage, "did you mean --speed?"},
		{"query --sql select --topic a --archive " + path, exitUsage, "--topic means nothing with --sql"},
		{"query --count --last 3 --archive " + path, exitUsage, "--last is for printing"},
		{"query --last 3 --limit 2 --archive " + path, exitUsage, "--last prints the last records, --limit the first"},
		{"query --last 0 --limit 2 --archive " + path, exitOK, ""},
		{"import", exitUsage, "which file?"},
		{"import --format json " + path, exitUsage, "letters with the payload, %p"},
		{"transform try --archive " + path, exitUsage, "--archive=" + path},
	} {
		_, said := mqttetlOut(t, c.code, strings.Fields(c.args)...)
		if !strings.Contains(said, c.want) || strings.Count(said, "unavailable") > 1 {
			t.Errorf("%s: %s", c.args, said)
		}
	}
}

// A stream that will never take the records is told with what to do.
func TestReplayToMisconfiguredStream(t *testing.T) {
	t.Parallel()
	path := archiveOf(t, minute())
	server, err := servers.StartNATSProcess(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	args := []string{"replay", "--speed", "max", "--archive", path, "--to", server.URL(), "--stream"}
	mqttetlOut(t, exitOK, append(args, "HAS")...)
	for want, flags := range map[string][]string{
		"name that one as --stream": {"AGAIN"},
		"do not cover other.>":      {"HAS", "--subject-prefix", "other"},
	} {
		if _, said := mqttetlOut(t, exitUnreachable, append(args, flags...)...); !strings.Contains(said, want) {
			t.Errorf("%v: %s", flags, said)
		}
	}
}

// Through WebSocket a replay confirms as it does over TCP, core and stream.
func TestReplayToNATSThroughWebSocket(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	server, err := servers.StartNATSProcess(t.TempDir(), "websocket { listen: \""+address+"\", no_tls: true }")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Kill()
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("core.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	path := archiveOf(t, minute())
	for _, flags := range [][]string{{"--subject-prefix", "core"}, {"--stream", "S"}} {
		args := append([]string{"replay", "--archive", path, "--speed", "max", "--to", "nats+ws://" + address}, flags...)
		if _, said := mqttetlOut(t, 0, args...); !strings.Contains(said, "selected 3001 = sent 3001, confirmed 3001") {
			t.Errorf("%v: %s", flags, said)
		}
	}
	if n, _, err := sub.Pending(); err != nil || n != 3001 {
		if err := nc.Flush(); err != nil { // what the server had sent is here behind it
			t.Fatal(err)
		}
		if n, _, err = sub.Pending(); err != nil || n != 3001 {
			t.Errorf("%d messages have come, %v", n, err)
		}
	}
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := js.StreamInfo("S"); err != nil || info.State.Msgs != 3001 {
		t.Errorf("%+v, %v", info, err)
	}
}
