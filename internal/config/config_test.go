package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/deploy"
	"github.com/mqttetl/mqttetl/internal/dial"
)

func environment(kv ...string) func(string) (string, bool) {
	m := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
}

// source is the least that a configuration must say, with more keys behind it.
func source(more ...string) string {
	s := "sources:\n  - url: mqtt://broker\n    subscribe: [a]\n"
	for _, line := range more {
		s += "    " + line + "\n"
	}
	return s
}

func parse(t *testing.T, src string, env ...string) *Config {
	t.Helper()
	c, err := Parse("x.yaml", []byte(src), environment(env...))
	if err != nil {
		t.Fatalf("parse:\n%v\nof\n%s", err, src)
	}
	return c
}

func TestExampleShowsTheDefaults(t *testing.T) {
	example := parse(t, deploy.Example)
	least := parse(t, `sources: [{url: "mqtt://127.0.0.1:1883", subscribe: ["factory/#", sensor/+/temperature]}]
archive: {}
nats: {}
http: {}
`)
	if !reflect.DeepEqual(example, least) {
		t.Errorf("the example\n%+v\nis not the defaults\n%+v", example, least)
	}
}

func TestExampleNamesEveryKey(t *testing.T) {
	uncommented := strings.NewReplacer("# ", "").Replace(deploy.Example)
	for _, key := range []string{
		"name", "url", "version", "client_id", "username", "password", "password_file", "tls", "ca", "cert", "key",
		"server_name", "insecure", "subscribe", "qos", "share", "connections", "receive_maximum", "max_packet", "keepalive", "retained",
		"dir", "max_size", "path", "batch", "count", "period", "stream", "subject_prefix", "creds_file", "listen",
		"readings", "latest", "routes", "topic", "exclude", "empty", "decode", "descriptor", "message", "header", "comma", "when", "map", "table", "columns",
		"time", "format", "timezone", "fallback", "not_before", "not_after", "lenient", "decompress", "readings_text", "publish", "rebirth", "on_error", "tests", "payload", "payload_base64", "payload_file", "received", "expect", "error",
	} {
		if !strings.Contains(uncommented, key+":") {
			t.Errorf("the example does not show %s", key)
		}
	}
}

func TestAbsentSectionsAreOff(t *testing.T) {
	c := parse(t, source())
	if c.Archive != nil || c.NATS != nil || c.HTTP != nil {
		t.Errorf("absent sections are on: %+v", c)
	}
	want := Source{
		Name: "default", URL: "mqtt://broker", Version: "auto", ClientID: "mqttetl-default", Subscribe: []string{"a"},
		QoS: 1, Connections: 1, ReceiveMaximum: 900, MaxPacket: 64 << 20, KeepAlive: 30 * time.Second, Retained: "new",
	}
	if !reflect.DeepEqual(c.Sources, []Source{want}) {
		t.Errorf("got %+v, want %+v", c.Sources[0], want)
	}
	if c.Log != (Log{Dir: "./data/log", CommitInterval: 50 * time.Millisecond}) {
		t.Errorf("log %+v", c.Log)
	}
}

func TestEveryValueArrives(t *testing.T) {
	c := parse(t, `
sources:
  - name: plant
    url: wss://b:9001/mqtt
    version: 5
    client_id: me
    username: u
    password: "${PW}"
    tls: &tls {ca: /ca, cert: /c, key: /k}
    subscribe: ["$SYS/#", +/a/#]
    qos: 2
    share: g
    connections: ${N}
    receive_maximum: 65535
    max_packet: 32KiB
    keepalive: 1m
    retained: never
  - name: second
    url: ssl://b
    version: 3.1.1
    subscribe: ["#"]
    tls: *tls
log: {dir: /d, max_size: 64MiB}
archive: {path: /a, batch: {count: 1, period: 1h}, readings: true, readings_text: true, latest: false}
nats: {url: "nats://a,tls://b:1", stream: S, subject_prefix: a.b, creds_file: /c, tls: {ca: /x}}
http: {listen: ":0"}
`, "PW", "a: [b} # c", "N", "3")
	want := &Config{
		Sources: []Source{{
			Name: "plant", URL: "wss://b:9001/mqtt", Version: "5", ClientID: "me", Username: "u", Password: "a: [b} # c",
			TLS: dial.TLS{CA: "/ca", Cert: "/c", Key: "/k"}, Subscribe: []string{"$SYS/#", "+/a/#"}, QoS: 2, Share: "g", Connections: 3,
			ReceiveMaximum: 65535, MaxPacket: 32 << 10, KeepAlive: time.Minute, Retained: "never",
		}, {
			Name: "second", URL: "ssl://b", Version: "3.1.1", ClientID: "mqttetl-second", Subscribe: []string{"#"},
			TLS: dial.TLS{CA: "/ca", Cert: "/c", Key: "/k"}, QoS: 1, Connections: 1, ReceiveMaximum: 900, MaxPacket: 64 << 20, KeepAlive: 30 * time.Second, Retained: "new",
		}},
		Log:     Log{"/d", 64 << 20, 50 * time.Millisecond},
		Archive: &Archive{"/a", Batch{1, time.Hour}, true, true, false},
		NATS:    &NATS{URL: "nats://a,tls://b:1", Stream: "S", SubjectPrefix: "a.b", CredsFile: "/c", TLS: dial.TLS{CA: "/x"}},
		HTTP:    &HTTP{":0"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c, want)
	}
}

// listener is a configuration with one listener that has further keys.
func listener(more ...string) string {
	s := "listen:\n  - url: mqtt://127.0.0.1:1883\n    max_connections: 5\n"
	for _, line := range more {
		s += "    " + line + "\n"
	}
	return s
}

func TestProblems(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"empty":               {"", "1:1: the file is empty"},
		"only a comment":      {"# x\n", "1:1: the file is empty"},
		"not a mapping":       {"- a\n", "1:1: the configuration must be a mapping of keys to values, not a list"},
		"no sources":          {"log: {dir: x}\n", "1:1: sources is missing"},
		"sources empty":       {"sources: []\n", "1:10: sources is empty"},
		"sources a mapping":   {"sources: {url: x}\n", "1:10: sources must be a list, not a mapping"},
		"source a text":       {"sources: [x]\n", `1:11: the source must be a mapping of keys to values, not the text "x"`},
		"syntax":              {"sources: [\nlog: {}\n", "1:10: sequence end"},
		"two documents":       {source() + "---\nlog: {}\n", "5:1: a second YAML document"},
		"unknown key":         {source("suscribe: [a]"), `4:5: unknown key "suscribe" in the source, did you mean "subscribe"?`},
		"unknown far key":     {source() + "zzzzzz: 1\n", `4:1: unknown key "zzzzzz" in the configuration, which knows sources, listen, log, archive, nats, http`},
		"twice":               {source("qos: 1", "qos: 2"), "5:5: qos is there twice"},
		"missing url":         {"sources:\n  - subscribe: [a]\n", "2:5: url is missing in the source"},
		"missing subscribe":   {"sources:\n  - url: mqtt://b\n", "2:5: subscribe is missing in the source"},
		"subscribe text":      {"sources:\n  - {url: 'mqtt://b', subscribe: a}\n", `2:34: subscribe must be a list, not the text "a"`},
		"subscribe number":    {"sources:\n  - {url: 'mqtt://b', subscribe: [5]}\n", "2:35: subscribe must be text, not the number 5"},
		"subscribe twice":     {"sources:\n  - {url: 'mqtt://b', subscribe: [a, a]}\n", `2:38: subscribe: "a" is there twice`},
		"scheme":              {"sources:\n  - {url: 'http://b', subscribe: [a]}\n", "2:11: url: broker URL http://b: the scheme is none of mqtt, mqtts, ws, wss"},
		"no host":             {"sources:\n  - {url: 'mqtt://', subscribe: [a]}\n", "2:11: url: broker URL mqtt:: no host"},
		"port":                {"sources:\n  - {url: 'mqtt://b:70000', subscribe: [a]}\n", "2:11: url: broker URL mqtt://b:70000: port 70000 is not from 1 to 65535"},
		"no URL":              {"sources:\n  - {url: 'mqtt://b:x', subscribe: [a]}\n", "2:11: url: "},
		"user in URL":         {"sources:\n  - {url: 'mqtt://u:p@b', subscribe: [a]}\n", "2:11: url: user and password"},
		"topic in URL":        {"sources:\n  - {url: 'mqtt://b/a', subscribe: [a]}\n", "2:11: url: "},
		"filter #":            {"sources:\n  - {url: 'mqtt://b', subscribe: ['a/#/b']}\n", `2:35: subscribe: topic filter "a/#/b": # is allowed only at the end`},
		"filter a#":           {"sources:\n  - {url: 'mqtt://b', subscribe: ['a#']}\n", `2:35: subscribe: topic filter "a#": + and # stand for whole levels`},
		"filter +x":           {"sources:\n  - {url: 'mqtt://b', subscribe: ['+x']}\n", `2:35: subscribe: topic filter "+x": + and # stand for whole levels`},
		"filter empty":        {"sources:\n  - {url: 'mqtt://b', subscribe: ['']}\n", "2:35: subscribe: topic filter must not be empty"},
		"filter NUL":          {"sources:\n  - {url: 'mqtt://b', subscribe: [\"a\\0\"]}\n", `2:35: subscribe: topic filter "a\x00" is not UTF-8 without NUL`},
		"filter $share":       {"sources:\n  - {url: 'mqtt://b', subscribe: ['$share/g/a']}\n", "2:35: subscribe: "},
		"qos 3":               {source("qos: 3"), "4:10: qos must be from 0 to 2, not 3"},
		"qos text":            {source("qos: one"), `4:10: qos must be a whole number from 0 to 2, not the text "one"`},
		"qos quoted":          {source(`qos: "1"`), `4:10: qos must be a whole number`},
		"qos float":           {source("qos: 1.0"), "4:10: qos must be a whole number from 0 to 2, not the number 1.0"},
		"qos null":            {source("qos:"), "4:10: qos must be a single value, not nothing"},
		"version":             {source("version: 4"), `4:14: version must be one of 5, 3.1.1, auto, not "4"`},
		"retained":            {source("retained: newest"), "4:15: retained must be one of new, always, never"},
		"connections":         {source("connections: 2"), "4:18: connections: 2 needs share"},
		"share":               {source("share: a/b"), `4:12: share: share "a/b" must not hold`},
		"max_packet small":    {source("max_packet: 1KiB"), "4:17: max_packet must be at least 32768 bytes, not 1KiB"},
		"receive_maximum 0":   {source("receive_maximum: 0"), "4:22: receive_maximum must be from 1 to 65535, not 0"},
		"receive_maximum big": {source("receive_maximum: 65536"), "4:22: receive_maximum must be from 1 to 65535, not 65536"},
		"keepalive negative":  {source("keepalive: -1s"), "4:16: keepalive must be whole seconds from 1s to 65535s"},
		"keepalive off":       {source("keepalive: 0s"), "4:16: keepalive must be whole seconds from 1s"},
		"keepalive long":      {source("keepalive: 65536s"), "4:16: keepalive must be whole seconds"},
		"keepalive fraction":  {source("keepalive: 1500ms"), "4:16: keepalive must be whole seconds"},
		"keepalive unit":      {source("keepalive: 30"), "4:16: keepalive must be a duration such as 500ms or 30s, not the number 30"},
		"name":                {source(`name: ""`), "4:11: name: must be 1 to 255 bytes"},
		"name number":         {source(`name: 7`), "4:11: name must be text, not the number 7"},
		"client id":           {source(`client_id: ""`), "4:16: client_id: must not be empty"},
		"two passwords":       {source("password: a", "password_file: /b"), "5:20: password and password_file exclude each other"},
		"password alone":      {source("password: a", `version: "3.1.1"`), "5:14: MQTT 3.1.1 has no password without a username"},
		"tls without TLS":     {source("tls: {ca: /ca}"), "4:10: tls has no meaning for mqtt://"},
		"cert alone":          {"sources:\n  - {url: 'mqtts://b', subscribe: [a], tls: {cert: /c}}\n", "2:52: cert needs key"},
		"key alone":           {"sources:\n  - {url: 'mqtts://b', subscribe: [a], tls: {key: /c}}\n", "2:51: key needs cert"},
		"insecure":            {"sources:\n  - {url: 'mqtts://b', subscribe: [a], tls: {insecure: 1}}\n", "2:56: insecure must be true or false"},
		"same name":           {source() + "  - {url: 'mqtt://c', subscribe: [a]}\n", `4:5: a second source named "default"`},
		"same client": {source("client_id: x") + "  - {name: b, url: 'tcp://BROKER:1883', client_id: x, subscribe: [a]}\n",
			`5:5: client id "x" is used by source "default" on the same broker`},
		"same further client": {source("client_id: x", "share: g", "connections: 3") + "  - {name: b, url: 'mqtt://broker', client_id: x-3, subscribe: [a]}\n",
			`7:5: client id "x-3" is used by source "default"`},
		"max_size negative":       {source() + "log: {max_size: -1MiB}\n", "4:17: max_size must be at least 1048576 bytes, not -1MiB"},
		"max_size unit":           {source() + "log: {max_size: 1 XB}\n", `4:17: max_size: "1 XB" is not a size`},
		"max_size overflow":       {source() + "log: {max_size: 10000000000GB}\n", "4:17: max_size: 10000000000GB is more than"},
		"dir empty":               {source() + "log: {dir: ''}\n", "4:12: dir: must be a path"},
		"section empty":           {source() + "archive:\n", "4:10: archive is empty: remove the key, or write {}"},
		"count":                   {source() + "archive: {batch: {count: 0}}\n", "4:26: count must be from 1"},
		"period":                  {source() + "archive: {batch: {period: 0s}}\n", "4:27: period must be more than 0s, not 0s"},
		"nats scheme":             {source() + "nats: {url: 'mqtt://b'}\n", "4:13: url: \"mqtt://b\" must begin with nats://"},
		"nats second":             {source() + "nats: {url: 'nats://b,'}\n", "4:13: url: "},
		"stream":                  {source() + "nats: {stream: a.b}\n", `4:16: stream: "a.b" must be`},
		"prefix":                  {source() + "nats: {subject_prefix: a..b}\n", `4:24: subject_prefix: "a..b" must be`},
		"prefix wildcard":         {source() + "nats: {subject_prefix: 'a.>'}\n", `4:24: subject_prefix: "a.>" must be`},
		"prefix /":                {source() + "nats: {subject_prefix: a/b}\n", `4:24: subject_prefix: "a/b" must be`},
		"prefix long":             {source() + "nats: {subject_prefix: " + strings.Repeat("a", 129) + "}\n", "4:24: subject_prefix: must not be longer than 128"},
		"prefix _INBOX":           {source() + "nats: {subject_prefix: _INBOX.x}\n", `4:24: subject_prefix: "_INBOX.x": `},
		"nats bare host":          {source() + "nats: {url: localhost}\n", `4:13: url: "localhost" must begin with nats://`},
		"prefix $":                {source() + "nats: {subject_prefix: '$JS'}\n", `4:24: subject_prefix: "$JS": `},
		"nats server_name":        {source() + "nats: {tls: {server_name: x}}\n", `4:14: unknown key "server_name" in tls`},
		"listen":                  {source() + "http: {listen: localhost}\n", `4:16: listen: "localhost" must be host:port`},
		"listen port":             {source() + "http: {listen: 'a:99999'}\n", `4:16: listen: port "99999" is not`},
		"merge key":               {source() + "log: {<<: {dir: x}}\n", `4:7: unknown key "<<" in log`},
		"alias unknown":           {source() + "log: *x\n", "4:6: alias *x: there is no anchor"},
		"variable unset":          {source("username: a-${NOPE}"), "4:17: environment variable NOPE is not set"},
		"variable quoted":         {source(`username: "a ${NOPE}"`), "4:18: environment variable NOPE is not set"},
		"variable name":           {source("username: ${1X}"), "4:15: ${ must be followed by the name of an environment variable"},
		"variable open":           {source("username: ${X"), "4:15: ${ without a closing }"},
		"variable in flow":        {source() + "log: {dir: ${X}}\n", "must be in quotes"},
		"variable number":         {source("qos: ${BAD}"), `4:10: qos must be a whole number from 0 to 2, not "no: {x: 1}"`},
		"NATS URL without a host": {source() + "nats: {url: 'nats://u:secret@'}", `names no host`},
		"listen without a host":   {source() + "http: {listen: 9641}", `:4:16: listen: "9641" must be host:port such as 127.0.0.1:9641`},
		"listen: nobody":          {listener(), `2:5: nobody can connect to listener "door"`},
		"listen: anonymous":       {"listen:\n  - url: mqtt://0.0.0.0:1883\n    anonymous: true\n", `:3:16: anonymous: everybody who can reach mqtt://0.0.0.0:1883 could publish`},
		"listen: no url":          {"listen:\n  - anonymous: true\n", "2:5: url is missing in the listener"},
		"listen: scheme":          {"listen:\n  - {url: 'wss://127.0.0.1', anonymous: true}\n", `2:11: url: "wss://127.0.0.1" must begin with mqtt://`},
		"listen: no tls":          {"listen:\n  - {url: 'mqtts://127.0.0.1', anonymous: true}\n", `2:11: url: mqtts://127.0.0.1 needs tls`},
		"listen: tls":             {listener("anonymous: true", "tls: {cert: a, key: b}"), "5:10: tls has no meaning for mqtt://"},
		"listen: half of tls":     {"listen:\n  - {url: 'mqtts://127.0.0.1', anonymous: true, tls: {cert: a}}\n", "key is missing in tls"},
		"listen: common name":     {"listen:\n  - {url: 'mqtts://127.0.0.1', identity: common_name, tls: {cert: a, key: b}}\n", "identity: common_name needs tls.client_ca"},
		"listen: two identities":  {"listen:\n  - {url: 'mqtts://127.0.0.1', anonymous: true, identity: common_name, tls: {cert: a, key: b, client_ca: c}}\n", "exclude it"},
		"listen: socket":          {"listen:\n  - {url: 'unix://run/x', anonymous: true}\n", "is not unix:// and a path from the root"},
		"listen: no address":      {"listen:\n  - {url: 'mqtt://:1883', password_file: x}\n", "2:11: url: "},
		"listen: path":            {"listen:\n  - {url: 'mqtt://127.0.0.1/a', anonymous: true}\n", "must end after the port"},
		"listen: not built yet":   {listener("anonymous: true", "deliver: true"), `5:5: unknown key "deliver" in the listener`},
		"listen: max_packet":      {listener("anonymous: true", "max_packet: 1GiB"), "5:17: max_packet must be at most 256MiB"},
		"listen: keepalive_max":   {listener("anonymous: true", "keepalive_max: 0s"), "5:20: keepalive_max"},
		"listen: denied":          {listener("anonymous: true", "denied: perhaps"), "denied"},
		"listen: one name twice":  {source("name: door") + listener("anonymous: true"), `:6:5: a second source or listener named "door"`},
		"listen: one port twice":  {listener("anonymous: true") + "  - {name: b, url: 'mqtt://127.0.0.1', anonymous: true}\n", `listener "door" has the address 127.0.0.1:1883 already`},
		"one path twice":          {source() + "log: {dir: ./x}\narchive: {path: x}", `:5:10: archive.path and log.dir are both x`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("x.yaml", []byte(c.src), environment("BAD", "no: {x: 1}"))
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("got %v, want Problems, of\n%s", err, c.src)
			}
			if len(ps) != 1 || !strings.HasPrefix(ps[0].String(), "x.yaml:") || !strings.Contains(ps[0].String(), c.want) {
				t.Errorf("got\n%v\nwant\nx.yaml:%s\nof\n%s", err, c.want, c.src)
			}
		})
	}
}

func TestAllProblemsAtOnceInTheOrderOfTheFile(t *testing.T) {
	_, err := Parse("x.yaml", []byte(`sources:
  - name: a
    qos: 7
    subscribe: ["a/#/b", "+x"]
    url: http://x
lgo: {}
http: {listen: nowhere}
`), environment())
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		lines = append(lines, strings.Join(strings.SplitN(line, ":", 4)[:3], ":"))
	}
	want := []string{"x.yaml:3:10", "x.yaml:4:17", "x.yaml:4:26", "x.yaml:5:10", "x.yaml:6:1", "x.yaml:7:16"}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("got %v\nwant %v\nfrom\n%v", lines, want, err)
	}
}

func TestNoProblemHoldsAPassword(t *testing.T) {
	for _, password := range []string{
		`47114711`, `4711.5`, `"47114711`, `{47114711`, `[47114711]`, `47114711: x`, `*47114711`, `&a *47114711`, `|47114711`, `'47114711`,
		`${47114711`, `${X:-47114711`, `@47114711`, `{a: 47114711}`, `${UNSET}47114711`,
	} {
		_, err := Parse("x.yaml", []byte(source("username: u", "password: "+password)), environment())
		if err == nil {
			t.Errorf("password: %s: want a problem, got none", password)
		} else if strings.Contains(err.Error(), "4711") {
			t.Errorf("password: %s: %v", password, err)
		}
	}
	for _, url := range []string{"nats://u:4711%zz@h", "nats://4711@", "http://u:4711@h", "nats://u:4711@h:99999", "nats://a:4711@h,nats://b:4711@"} {
		if _, err := Parse("x.yaml", []byte(source()+"nats: {url: '"+url+"'}\n"), environment()); err == nil || strings.Contains(err.Error(), "4711") {
			t.Errorf("nats.url %s: %v", url, err)
		}
	}
	if _, err := Parse("x.yaml", []byte("sources:\n  - {url: 'mqtt://u:47/11@h', subscribe: [a]}\n"), environment()); err == nil || strings.Contains(err.Error(), "47") {
		t.Errorf("sources.url: %v", err)
	}
}

func TestExpand(t *testing.T) {
	env := environment("A", "1", "EMPTY", "", "NESTED", "${A}")
	for in, want := range map[string]string{
		"": "", "x": "x", "${A}": "1", "<${A}${A}>": "<11>", "$A": "$A", "pa$$word": "pa$$word", "$${A}": "${A}", "$$${A}": "$${A}",
		"${EMPTY}": "", "${EMPTY:-d}": "d", "${NONE:-d:-e}": "d:-e", "${NONE:-}": "", "${A:-d}": "1", "${NESTED}": "${A}", "a$": "a$",
	} {
		if got, _, err := expand(in, env); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestCommentsAreNotExpanded(t *testing.T) {
	parse(t, source("qos: 1 # ${NOPE}")+"# ${NOPE}\n")
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "4096": 4096, "1B": 1, "1KiB": 1024, "64MiB": 64 << 20, "16GiB": 16 << 30, "1 TiB": 1 << 40,
		"1kB": 1000, "1GB": 1e9, "1.5MiB": 3 << 19, "-1MB": -1e6,
	} {
		if got, err := parseSize(in); got != want || err != nil {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "MiB", "1m", "1e3", "0x10", "NaN", "inf", "1_000", "9223372036854775808", "99999999TiB", "1.5e300MB"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q: %d, want an error", in, got)
		}
	}
}

func TestPasswordFileIsReadEachTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "password")
	s := Source{Name: "x", PasswordFile: path}
	for content, want := range map[string]string{"secret\n": "secret", "two\r\n": "two", "no end": "no end", " kept \n": " kept "} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.ReadPassword(); got != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadPassword(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("a: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), path+":1:1: ") {
		t.Errorf("got %v", err)
	}
}

// A shell does not have the environment of the service.
func TestStoresAreReadWithoutTheSecretsOfTheBrokers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(source("username: ${MQTTETL_TEST_NONE}", "password_file: ${MQTTETL_TEST_NONE}/password",
		`tls: {ca: "${MQTTETL_TEST_NONE}/ca", cert: "${MQTTETL_TEST_NONE}/c", key: "${MQTTETL_TEST_NONE}/k"}`), "mqtt://", "mqtts://", 1))
	c, err := LoadStores(path)
	if err != nil || c.Sources[0].HasPassword() || !reflect.ValueOf(c.Sources[0].TLS).IsZero() {
		t.Fatalf("%+v, %v", c, err)
	}
	var ps Problems
	if _, err := Load(path); !errors.As(err, &ps) || len(ps) != 5 {
		t.Errorf("Load: %v, want five variables that are not set", err)
	}
	for _, text := range []string{
		source("client_id: ${MQTTETL_TEST_NONE}"), source("password: ${not a name}"), source() + "log: {dir: '${MQTTETL_TEST_NONE}'}\n",
	} {
		write(text)
		if c, err := LoadStores(path); err == nil {
			t.Errorf("got %+v of\n%s", c, text)
		}
	}
}

func TestByteOrderMark(t *testing.T) {
	parse(t, "\ufeff"+source())
}
