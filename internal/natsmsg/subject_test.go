package natsmsg

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nats-io/nats-server/v2/server"
)

func TestSubject(t *testing.T) {
	for topic, want := range map[string]string{
		"a/b/c":         "mqtt.a.b.c",
		"":              "mqtt.%",
		"/":             "mqtt.%.%",
		"/a":            "mqtt.%.a",
		"a/":            "mqtt.a.%",
		"a//b":          "mqtt.a.%.b",
		"%":             "mqtt.%25",
		"%/":            "mqtt.%25.%",
		"a.b/*/>":       "mqtt.a%2Eb.%2A.%3E",
		"two words":     "mqtt.two%20words",
		"tab\tnul\x00":  "mqtt.tab%09nul%00",
		"del\x7f":       "mqtt.del%7F",
		"$SYS/broker/x": "mqtt.$SYS.broker.x",
		"wärme/温度":      "mqtt.wärme.温度",
		"\xff\xc3/\xc3": "mqtt.%FF%C3.%C3",
		"\uFFFD":        "mqtt.%EF%BF%BD",
	} {
		got, short := Subject("mqtt", []byte(topic))
		if got != want || short {
			t.Errorf("Subject(%q) = %q, %v, want %q", topic, got, short, want)
		}
		if back, err := Topic("mqtt", want); err != nil || string(back) != topic {
			t.Errorf("Topic(%q) = %q, %v, want %q", want, back, err, topic)
		}
	}
}

func TestSubjectShortened(t *testing.T) {
	level := "level" + strings.Repeat("x", 95)
	long := strings.Repeat(level+"/", 600)
	got, short := Subject("mqtt", []byte(long))
	if !short || len(got) > MaxSubject || !strings.HasPrefix(got, "mqtt."+level+"."+level+".") {
		t.Errorf("Subject of %d bytes: %d bytes, %v: %s", len(long), len(got), short, got)
	}
	if _, err := Topic("mqtt", got); !errors.Is(err, ErrShortened) {
		t.Errorf("Topic of a shortened subject: %v", err)
	}
	other, _ := Subject("mqtt", []byte(long+"/"))
	if other == got {
		t.Error("two topics, one subject")
	}
	// One level that is longer than the whole subject may be.
	got, short = Subject("mqtt", bytes.Repeat([]byte(" "), 65535))
	if want := "mqtt." + shortMark; !short || !strings.HasPrefix(got, want) || len(got) != len(want)+64 {
		t.Errorf("Subject of 65,535 spaces: %v %s", short, got)
	}
	// The bound itself.
	fits := strings.Repeat("x", MaxSubject-len("mqtt."))
	if got, short := Subject("mqtt", []byte(fits)); short || len(got) != MaxSubject {
		t.Errorf("%d bytes, shortened %v; want %d, unshortened", len(got), short, MaxSubject)
	}
	if got, short := Subject("mqtt", []byte(fits+"x")); !short || len(got) > MaxSubject {
		t.Errorf("%d bytes, shortened %v; want shortened", len(got), short)
	}
	if got, short := Subject("mqtt", []byte(fits[1:]+"/")); !short || len(got) > MaxSubject {
		t.Errorf("%d bytes, shortened %v; want shortened", len(got), short)
	}
}

func TestTopicRefuses(t *testing.T) {
	for _, s := range []string{"", "mqtt", "mqtt.", "mqttx.a", "mqtt..a", "mqtt.a.", "mqtt.%2", "mqtt.%2a", "mqtt.%41", "mqtt.%%", "mqtt.a b", "mqtt.%G0", "mqtt.\xff"} {
		if topic, err := Topic("mqtt", s); !errors.Is(err, ErrSubject) {
			t.Errorf("Topic(%q) = %q, %v, want ErrSubject", s, topic, err)
		}
	}
}

func FuzzSubject(f *testing.F) {
	for _, s := range []string{"a/b", "", "/", "//", "%", "%25", "%~", "a.b", "*", ">", " ", "\x00\x7f", "\xff", "é\uFFFD", "$SYS/x", strings.Repeat("/", 600), strings.Repeat("%", 400), strings.Repeat("é/", 3000)} {
		f.Add([]byte(s), []byte("a/b"))
	}
	f.Fuzz(func(t *testing.T, topic, other []byte) {
		subject, short := Subject("mqtt", topic)
		if len(subject) > MaxSubject || !server.IsValidLiteralSubject(subject) || !utf8.ValidString(subject) {
			t.Fatalf("topic %q: subject %q", topic, subject)
		}
		for i := range len(subject) {
			if subject[i] <= ' ' || subject[i] == 0x7f {
				t.Fatalf("topic %q: subject %q", topic, subject)
			}
		}
		back, err := Topic("mqtt", subject)
		if short != errors.Is(err, ErrShortened) || !short && (err != nil || !bytes.Equal(back, topic)) {
			t.Fatalf("topic %q: subject %q: back %q, %v", topic, subject, back, err)
		}
		if s, _ := Subject("mqtt", other); s == subject && !bytes.Equal(topic, other) {
			t.Fatalf("topics %q and %q: one subject %q", topic, other, s)
		}
	})
}

func FuzzTopic(f *testing.F) {
	for _, s := range []string{"mqtt.a.b", "mqtt.%", "mqtt.%25", "mqtt.%~00", "mqtt.%2a", "mqtt..", "mqtt.%E9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		topic, err := Topic("mqtt", s)
		if err != nil {
			return
		}
		if again, short := Subject("mqtt", topic); again != s || short {
			t.Fatalf("%q is the topic %q, whose subject is %q", s, topic, again)
		}
	})
}

func BenchmarkAppendSubject(b *testing.B) {
	topic := []byte("factory/line7/machine42/temperature")
	var buf []byte
	b.SetBytes(int64(len(topic)))
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = AppendSubject(buf[:0], "mqtt", topic)
	}
}
