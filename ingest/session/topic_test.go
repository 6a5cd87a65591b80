package session

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
)

// topicAsItCame is what the user property of a record says of its topic.
func topicAsItCame(t *testing.T, p mqttetl.Properties) (topic []byte) {
	t.Helper()
	for v := range p.All() {
		if v.ID == mqttetl.UserProperty && string(v.Name) == topicProperty {
			part, err := base64.StdEncoding.DecodeString(string(v.Value))
			if err != nil {
				t.Fatal(err)
			}
			topic = append(topic, part...)
		}
	}
	return topic
}

// TestMalformedTopics: a message whose topic no broker should have let through
// is acknowledged and kept, under a topic that every reader can take, with the
// topic as it came beside it; the connection goes on.
func TestMalformedTopics(t *testing.T) {
	long := bytes.Repeat([]byte{0xff}, 65535)
	for name, c := range map[string]struct{ topic, want string }{
		"NUL":         {"a\x00b", "a%00b"},
		"byte":        {"caf\xe9/1", "caf%E9/1"},
		"surrogate":   {"\xed\xa0\x80", "%ED%A0%80"},
		"overlong":    {"\xc0\x80", "%C0%80"},
		"percent too": {"100%\xff", "100%25%FF"},
		"long":        {string(long), strings.Repeat("%FF", 65535/3)},
		"as it is":    {"caf\u00e9/100%/\ufffd\u0001", ""},
	} {
		for _, v5 := range []bool{true, false} {
			for _, payload := range []int{1, 2 * longFrame} {
				for qos := range byte(3) {
					t.Run(fmt.Sprint(name, " v5=", v5, " payload=", payload, " qos=", qos), func(t *testing.T) {
						lines := &logLines{}
						w := newLine(t, &memory{}, v5, func(cfg *Config) { cfg.Logger = lines.logger() })
						props := mqttetl.Property{ID: mqttetl.UserProperty, Name: []byte("k"), Value: []byte("v")}.Append(nil)
						w.send(t, publishFrame(v5, qos<<1, 5, c.topic, props, make([]byte, payload)))
						w.send(t, publishFrame(v5, qos<<1, 6, c.topic, nil, nil))
						w.send(t, publishFrame(v5, 2, 7, "after", nil, nil))
						eventually(t, "records", func() bool { return len(w.log.all()) == 3 })
						got := w.log.all()[0]
						asItCame := topicAsItCame(t, got.Properties)
						want, told := c.want, 1
						if want == "" {
							want, told = c.topic, 0
						} else if string(asItCame) != c.topic {
							t.Errorf("the topic as it came is %.50q, want %.50q", asItCame, c.topic)
						}
						if string(got.Topic) != want || len(got.Payload) != payload {
							t.Errorf("topic %.50q with %d bytes, want %.50q", got.Topic, len(got.Payload), want)
						}
						if err := got.Properties.Check(); err != nil || v5 && !bytes.HasPrefix(got.Properties, props) {
							t.Errorf("properties %.50q: %v", got.Properties, err)
						}
						if n := w.counts.badTopics.Load(); n != int64(2*told) || lines.count("not UTF-8 without NUL") != told {
							t.Errorf("counted %v, log says\n%s", n, lines)
						}
					})
				}
			}
		}
	}
}

// TestPlainASCII: every byte at every place of topics of every short length.
func TestPlainASCII(t *testing.T) {
	for n := range 20 {
		for at := range n {
			topic := bytes.Repeat([]byte{1}, n)
			for b := range 256 {
				topic[at] = byte(b)
				if got, want := plainASCII(topic), b > 0 && b < 128; got != want {
					t.Fatalf("%x: %v, want %v", topic, got, want)
				}
			}
		}
	}
}
