package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each example is a configuration of a real device, with tests that hold.
func TestExamplesOfDevices(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if r := call(t, "config", "check", file); r != (outcome{}) {
				t.Errorf("check: %+v", r)
			}
			r := call(t, "config", "test", file)
			if r.code != 0 || r.err != "" || !regexp.MustCompile(`^\S+: \d+ tests passed\n$`).MatchString(r.out) {
				t.Errorf("exit %d\n%s%s", r.code, r.out, r.err)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, ugly, _ := strings.Cut(string(text), "  # What "); strings.Count(ugly, "topic: ") < 3 {
				t.Errorf("%d tests of what its devices send when something is wrong, want 3", strings.Count(ugly, "topic: "))
			}
			// An expectation that is another number than before does not hold.
			numbers := regexp.MustCompile(`expect: \{\w+: \[\{.*?: (\d+)[^"\w]`).FindSubmatchIndex(text)
			if numbers == nil {
				t.Fatal("no number to change")
			}
			broken := filepath.Join(t.TempDir(), "broken.yaml")
			writeFile(t, broken, string(text[:numbers[2]])+"98765"+string(text[numbers[3]:]))
			if r := call(t, "config", "test", broken); r.code != exitFailed || !strings.Contains(r.out, "want 98765") {
				t.Errorf("broken: exit %d\n%s%s", r.code, r.out, r.err)
			}
		})
	}
}

const testedConfig = `sources: [{name: plant, url: 'mqtt://127.0.0.1:1', subscribe: ["#"]}]
archive: {}
routes:
  - name: power
    topic: tele/{device}/SENSOR
    table: power
    time: {path: .Time, fallback: none, not_before: any}
    columns: {power: REAL .Power, note: TEXT .note?}
tests:
`

func TestConfigTestSaysWhatDiffers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c.yaml")
	for _, c := range []struct {
		test, want string
		code       int
	}{
		{`{topic: tele/a/SENSOR, payload: '{"Time":1,"Power":2}', expect: {power: [{device: a, power: 2, note: null, time: "1970-01-01T00:00:01Z"}]}}`, "1 test passed\n", 0},
		{`{topic: tele/a/SENSOR, payload: '{"Time":1,"Power":2}', expect: {power: [{device: b, power: 3, note: x}]}}`,
			"c.yaml:10: tele/a/SENSOR\n    power, row 1: device: want \"b\", got \"a\"\n    power, row 1: note: want \"x\", got NULL\n    power, row 1: power: want 3, got 2.0\n", 1},
		{`{topic: tele/a/SENSOR, payload: '{"Time":1,"Power":2}', expect: {power: []}}`,
			"power, row 1: not expected: time=1970-01-01T00:00:01Z device=\"a\" power=2.0 note=NULL\n", 1},
		{`{topic: tele/a/SENSOR, payload: '{"Time":1,"Power":2}', expect: {}}`, "not expected", 1},
		{`{topic: tele/a/STATE, payload: '{}', expect: {power: [{power: 3}]}}`, "power, row 1: missing, want power=3\n", 1},
		{`{topic: tele/a/STATE, payload: '{}', expect: {watts: []}}`, "no route has the table watts\n", 1},
		{`{topic: tele/a/SENSOR, payload: '{"Time":1,"Power":2}', expect: {power: [{watts: 3}]}}`, "there is no column watts, only time, device, power, note\n", 1},
		{`{topic: tele/a/SENSOR, payload: '{"Power":2}', expect: {power: []}}`, "route power: column time: there is no time, and no fallback\n", 1},
		{`{topic: tele/a/SENSOR, payload: '{"Power":2}', error: no time}`, "1 test passed\n", 0},
		{`{topic: tele/a/SENSOR, payload: '{"Time":1,"Power":2}', error: no time}`, "want an error with \"no time\", no route has failed with it\n", 1},
	} {
		writeFile(t, path, testedConfig+"  - "+c.test+"\n")
		r := call(t, "config", "test", path)
		if r.code != c.code || !strings.Contains(r.out, c.want) || (r.err != "") != (c.code != 0) {
			t.Errorf("%s\nexit %d\n%s%swant\n%s", c.test, r.code, r.out, r.err, c.want)
		}
	}
	writeFile(t, path, strings.Replace(testedConfig, "columns:", "colums:", 1)+"  []\n")
	if r := call(t, "config", "test", path); r.code != exitConfig || !strings.HasPrefix(r.err, path+":8:5: ") {
		t.Errorf("%+v", r)
	}
	if r := call(t, "config", "test", path+"x"); r.code != exitConfig {
		t.Errorf("%+v", r)
	}
	if r := call(t, "config", "test"); r.code != exitUsage {
		t.Errorf("%+v", r)
	}
	// -c names the file, too, as everywhere; not two.
	writeFile(t, path, testedConfig+"  - {topic: x, payload: x, expect: {}}\n")
	for _, command := range []string{"check", "test"} {
		for _, flag := range []string{"-c", "--config"} {
			if r := call(t, "config", command, flag, path); r.code != 0 || r.err != "" {
				t.Errorf("config %s %s: %+v", command, flag, r)
			}
		}
		if r := call(t, "config", command, "-c", path, path); r.code != exitUsage || !strings.Contains(r.err, "takes one file, not 2") {
			t.Errorf("config %s: %+v", command, r)
		}
	}
}

// Bytes, exact integers and the terminal's safety.
func TestConfigTestValues(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "c.yaml")
	writeFile(t, path, `sources: [{name: plant, url: 'mqtt://127.0.0.1:1', subscribe: ["#"]}]
archive: {}
routes:
  - {name: raw, topic: raw/#, decode: raw, table: raw, columns: {bytes: BLOB .}}
  - {name: big, topic: big, table: big, columns: {n: INTEGER .}}
tests:
  - {topic: raw/1, payload_base64: AP8=, expect: {raw: [{bytes: AP8=}]}}
  - {topic: big, payload: "9007199254740993", expect: {big: [{n: 9007199254740993}]}}
  - {topic: big, payload: "9007199254740993", expect: {big: [{n: 9007199254740992}]}}
  - {topic: "raw/\x1b[31m", payload_base64: AP8=, expect: {raw: []}}
`)
	r := call(t, "config", "test", path)
	if r.code != exitFailed || strings.Count(r.out, "\n") != 4 || !strings.Contains(r.out, "want 9007199254740992, got 9007199254740993") ||
		bytes.Contains([]byte(r.out), []byte{0x1b}) || !strings.Contains(r.out, "bytes=x'00FF'") {
		t.Errorf("%+v", r)
	}
}
