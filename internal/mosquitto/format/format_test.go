package format

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
)

// That formats print what mosquitto_sub prints is tested beside the command,
// with mosquitto_sub itself.

// TestStrftime compares with date(1), which uses the C library's strftime.
func TestStrftime(t *testing.T) {
	for _, unix := range []int64{0, 951782399, 1104537600, 1230768000, 1456747199, 1609459200, 1795252501} {
		when := time.Unix(unix, 0).UTC()
		for _, letter := range "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ%" {
			cmd := exec.Command("date", "-u", "-d", when.Format(time.RFC3339), "+%"+string(letter))
			cmd.Env = []string{"LC_ALL=C"}
			want, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if got := string(strftime(nil, byte(letter), when)); got != strings.TrimSuffix(string(want), "\n") {
				t.Errorf("%%%c of %d: %q, date prints %q", letter, unix, got, want)
			}
		}
	}
}

func TestTimesAreRFC3339(t *testing.T) {
	f, err := Parse("%I %U @N")
	if err != nil {
		t.Fatal(err)
	}
	zone := time.FixedZone("", -(3*60+30)*60)
	m := &Message{Message: mqttetl.Message{Topic: []byte("t"), Payload: []byte("1")}, Time: time.Unix(1470818943, 786368637).In(zone)}
	got, err := Style{Format: f, NoEOL: true}.Append(nil, m)
	if want := "2016-08-10T05:19:03-03:30 1470818943.786368637 786368637"; err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	j, err := AppendJSON(nil, m, true)
	if want := `{"tst":"2016-08-10T05:19:03.786368-03:30","topic":"t","qos":0,"retain":0,"payloadlen":1,"payload":1}`; err != nil || string(j) != want {
		t.Errorf("%s, %v, want %s", j, err, want)
	}
}

func TestVisible(t *testing.T) {
	s := Style{Verbose: true, Visible: true}
	m := &Message{Message: mqttetl.Message{Topic: []byte("a\x1b]0;b\a"), Payload: []byte("ä\t\n\r\x00\xff\u0085\u202e🙂")}}
	got, _ := s.Append(nil, m)
	if want := `a\x1b]0;b\x07 ` + "ä\t\n" + `\x0d\x00\xff\xc2\x85\xe2\x80\xae🙂` + "\n"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	f, err := Parse(`\e[1m%p`)
	if err != nil {
		t.Fatal(err)
	}
	m.Payload = []byte("\x1b[2J")
	if got, _ := (Style{Format: f, Visible: true, NoEOL: true}).Append(nil, m); string(got) != "\x1b[1m"+`\x1b[2J` {
		t.Errorf("%q", got)
	}
}

// FuzzJSON: whatever a message holds, what is printed is JSON.
func FuzzJSON(f *testing.F) {
	f.Add([]byte("t"), []byte(`{"a":[1,2.50,{"b":"\u0000\ud800"}]}`), []byte{0x26, 0, 1, 'k', 0, 1, 'v'}, true)
	f.Add([]byte("\xff"), []byte("\x00\xff"), []byte{0x09, 0, 1, 0xff}, false)
	f.Add([]byte(`"\`), []byte("1e999"), []byte{0x0b, 1, 0x0b, 2}, true)
	f.Fuzz(func(t *testing.T, topic, payload, props []byte, nested bool) {
		m := &Message{Message: mqttetl.Message{Topic: topic, Payload: payload, Flags: 1}, Time: time.Unix(1, 2)}
		if p := mqttetl.Properties(props); p.Check() == nil {
			m.Properties = p
		}
		out, err := AppendJSON(nil, m, nested)
		if nested && len(payload) > 0 && (err == nil) != json.Valid(payload) {
			t.Fatalf("%q: %v", payload, err)
		}
		if err == nil && !json.Valid(out) {
			t.Fatalf("not JSON: %s", out)
		}
	})
}

// FuzzParse: a format is refused or prints.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"%t %p", "%-010.5t@H@N@@%%", `\0\e%`, "%99999999l", "%j%J%x"} {
		f.Add(s)
	}
	m := &Message{Message: mqttetl.Message{Topic: []byte("t"), Payload: []byte("{}")}, Time: time.Unix(1, 2)}
	f.Fuzz(func(t *testing.T, s string) {
		if f, err := Parse(s); err == nil && len(s) < 100 {
			_, _ = Style{Format: f}.Append(nil, m)
		}
	})
}
