package importer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/forward/export"
)

// said is a record as the tests below write it.
func said(cfg Config, text string) (records []string, s Stats, why []string, err error) {
	cfg.Bad = func(line int64, err error) { why = append(why, fmt.Sprintf("%d: %v", line, err)) }
	began := time.Now().UnixNano()
	recs, s, err := dry(cfg, []byte(text))
	for _, r := range recs {
		at := "now"
		if r.Time < began {
			at = strings.Replace(r.When().UTC().Format("2006-01-02T15:04:05.999999999"), "2026-01-05T19:52:", "", 1)
		}
		records = append(records, fmt.Sprintf("%s %s %s %d", at, r.Topic, r.Payload, r.Flags))
	}
	return records, s, why, err
}

// What programs other than this one have recorded. 2026-01-05T19:52:56Z is
// 1767642776, and "56" in what is wanted.
func TestRecordings(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		text string
		want string // records with ; between, then / and the reasons of rejecting
	}{
		{"base64 under another name", Config{Columns: "payload=msg_b64:base64"}, `{"time":1767642776.25,"qos":0,"retain":false,"topic":"y","msg_b64":"T04="}` + "\n" + `{"time":1767642777.5,"qos":1,"retain":true,"topic":"y","msg_b64":"__79"}`,
			"56.25 y ON 0; 57.5 y \xff\xfe\xfd 5"},
		{"another name, not given", Config{}, `{"time":1767642776.25,"topic":"y","msg_b64":"T04=","x":1}`, "/ 1: no payload: --columns payload=… names its member of msg_b64, x"},
		{"only a payloadlen", Config{}, `{"time":1767642776,"topic":"y","payloadlen":0}`, "56 y  0"},
		{"no payload at all", Config{}, `{"time":1767642776,"topic":"y"}`, "/ 1: no payload"},
		{"no topic", Config{}, `{"time":1767642776,"payload":"1"}`, "/ 1: no topic: --topic gives one"},
		{"a topic for all", Config{Topic: "z"}, `{"time":1767642776,"payload":"1"}` + "\n" + `{"time":1767642776,"payload":"1","topic":"y"}`, "56 z 1 0; 56 y 1 0"},
		{"hex", Config{Columns: "payload=p:hex"}, `{"time":1767642776,"topic":"y","p":"00FFfe"}` + "\n" + `{"time":1767642776,"topic":"y","p":"0"}` + "\n" + `{"time":1767642776,"topic":"y","p":7}`,
			"56 y \x00\xff\xfe 0/ 2: payload: not hexadecimal: encoding/hex: odd length hex string/ 3: payload: \"7\" is no string of hex"},
		{"named members of members", Config{Columns: "time=received_at,qos=packet.qos,retain=packet.retain"},
			`{"topic":"y","payload":"21.5","packet":{"cmd":"publish","retain":true,"qos":1,"topic":"no"},"received_at":"2026-01-05T19:52:56.123Z"}`, "56.123 y 21.5 5"},
		{"a name with a point in it", Config{Columns: "payload=a.b"}, `{"time":1767642776,"topic":"y","a.b":"1"}`, "56 y 1 0"},
		{"a name takes the place of the usual one", Config{Columns: "payload=value,time=at"}, `{"time":"x","at":1767642776,"topic":"y","payload":"no","payload_base64":"bm8=","value":"1"}`, "56 y 1 0"},
		{"null payload", Config{}, `{"time":1767642776,"topic":"y","payload":null}`, "/ 1: payload null: empty with --columns payload=payload:text, the text null with payload=payload:json"},
		{"null as empty", Config{Columns: "payload=payload:text"}, `{"time":1767642776,"topic":"y","payload":null,"qos":null,"retain":null}`, "56 y  0"},
		{"null as JSON", Config{Columns: "payload=payload:json"}, `{"time":1767642776,"topic":"y","payload":null}` + "\n" + `{"time":1767642776,"topic":"y","payload":"a"}`, `56 y null 0; 56 y "a" 0`},
		{"numbers and objects", Config{}, `{"time":1767642776,"topic":"y","payload":21.50}` + "\n" + `{"time":1767642776,"topic":"y","payload":true}` + "\n" + `{"time":1767642776,"topic":"y","payload":{"t":1.0,"u":[1e3]}}`,
			`56 y 21.50 0; 56 y true 0; 56 y {"t":1.0,"u":[1e3]} 0`},
		{"NaN of Python", Config{}, `{"time":1767642776,"topic":"y","payload":"1","delta":NaN,"x":-Infinity}` + "\n" + `{"time":1767642776,"topic":"y","payload":NaN}`,
			`56 y 1 0/ 2: payload: "NaN" is not JSON`},
		{"Buffer of Node.js", Config{}, `{"time":1767642776,"topic":"y","payload":{"type":"Buffer","data":[50,49]}}`, "/ 1: payload: bytes as Node.js writes them with --columns payload=payload:buffer, this JSON with payload=payload:json"},
		{"Buffer, named", Config{Columns: "payload=payload:buffer"}, `{"time":1767642776,"topic":"y","payload":{"type":"Buffer","data":[0,255]}}` + "\n" + `{"time":1767642776,"topic":"y","payload":"text"}`, "56 y \x00\xff 0; 56 y text 0"},
		{"Python's True and half a float", Config{}, "topic,payload,qos,retain,time\ny,1,1.0,True,1767642776.253411\ny,2,0,FALSE,1767642776\n", "56.253411 y 1 5; 56 y 2 0"},
		{"bytes that Python printed", Config{}, `{"time":1767642776,"topic":"y","payload":"b'21.5'"}`, "/ 1: payload: " + readTwoWays([]byte("b''"), "NAME").Error()},
		{"bytes that Python printed, in CSV", Config{}, "time,topic,payload\n1767642776,y,b'21.5'\n", "/ 2: payload: " + readTwoWays([]byte("b''"), "NAME").Error()},
		{"bytes of Python, named", Config{Columns: "payload=payload:python"}, `{"time":1767642776,"topic":"y","payload":"b'\\x00\\xff\\n\\\\ it\\'s'"}` + "\n" + `{"time":1767642776,"topic":"y","payload":"text"}` + "\n" + `{"time":1767642776,"topic":"y","payload":"b'\\q'"}`,
			"56 y \x00\xff\n\\ it's 0; 56 y text 0/ 3: payload: \"\\\\q\" is no escape of Python's bytes"},
		{"Python's print", Config{Format: "%t %p"}, "y b'21.5'\n", "/ 1: payload: " + readTwoWays([]byte("b''"), "%p").Error()},
		{"Python's print, named", Config{Format: "%U %t %p", Columns: "payload=%p:python"}, "1767642776 y b'\\xff'\n1767642776 y x\n", "56 y \xff 0; 56 y x 0"},
		{"text like Python's bytes, in a text", Config{Format: "%U %t %p", Columns: "payload=%p:text"}, "1767642776 y b'1'\n", "56 y b'1' 0"},
		{"base64 in a text", Config{Format: "%U %t %p", Columns: "payload=%p:base64"}, "1767642776 y T04=\n1767642776 y T!\n", "56 y ON 0/ 2: payload: not base64: illegal base64 data at input byte 1"},
		{"hex of PostgreSQL, not named", Config{}, "time,topic,payload\n1767642776,y,\\x00ff\n1767642776,y,\\x0\n", `56 y \x0 0/ 2: payload: ` + readTwoWays([]byte(`\x00`), "NAME").Error()},
		{"hex of PostgreSQL in JSON", Config{}, `{"time":1767642776,"topic":"y","payload":"\\x3231"}`, "/ 1: payload: " + readTwoWays([]byte(`\x00`), "NAME").Error()},
		{"hex of PostgreSQL, exported", Config{}, export.CSVHeader + "1,2026-01-05T19:52:56Z,y,import,0,0,0,\\x00ff,,\n", "56 y \\x00ff 0"},
		{"blanks behind commas", Config{}, "time, topic, payload\n1767642776, y, 21.5 \n1767642776, y, \"1\"\n", `56 y 21.5 0/ 3: payload: a blank before a quote`},
		{"a comma behind each object", Config{}, `{"time":1767642776,"topic":"y","payload":"1"},` + "\n" + `{"time":1767642776,"topic":"y","payload":"2"},` + "\n", "56 y 1 0; 56 y 2 0"},
		{"objects in one line", Config{}, `{"time":1767642776,"topic":"y","payload":"}{"}{"time":1767642776,"topic":"y","payload":"2"} {"time":1767642776,"topic":"y","payload":"3"}`, "56 y }{ 0; 56 y 2 0; 56 y 3 0"},
		{"QoS in words", Config{}, `{"time":1767642776,"topic":"y","payload":"1","qos":"AT_LEAST_ONCE"}` + "\n" + `{"time":1767642776,"topic":"y","payload":"1","qos":3}`, `56 y 1 1/ 2: qos "3": must be 0, 1 or 2`},
		{"text like Python's bytes, named", Config{Columns: "payload=payload:text"}, "time,topic,payload\n1767642776,y,b'21.5'\n", "56 y b'21.5' 0"},
		{"text like Python's bytes, exported", Config{}, export.CSVHeader + "1,2026-01-05T19:52:56Z,y,import,0,0,0,b'21.5',,\n", "56 y b'21.5' 0"},
		{"no header", Config{Header: "topic,payload,qos,retain,time,delta"}, "y,\"a, \"\"b\"\"\nc\",1,True,1767642776,0.5\ny,1\n", "56 y a, \"b\"\nc 5/ 3: 2 fields, the header has 6"},
		{"no header, base64", Config{Header: "time,topic,payload:base64", Separator: ' '}, "1767642776 y T04=\n", "56 y ON 0"},
		{"semicolons, byte order mark, CRLF", Config{}, "\xef\xbb\xbfTime;Topic;Payload\r\n2026-01-05 19:52:56,123;y;21,5\r\n", "56.123 y 21,5 0"},
		{"tabs", Config{}, "topic\ttime\tpayload\ny\t1767642776\ta,b;c\n", "56 y a,b;c 0"},
		{"CSV of one topic", Config{Topic: "y", Columns: "payload=value"}, "time,value\n2026-01-05T19:52:56Z,21.5\n", "56 y 21.5 0"},
		{"CSV with tst", Config{}, "tst,topic,payload\n1767642776000,y,1\n", "56 y 1 0"},
		{"tab and escapes", Config{Format: `%I\t%t\t%p`}, "2026-01-05T19:52:56+0000\tr/my topic\t2\t1.5\n", "56 r/my topic 2\t1.5 0"},
		{"strftime", Config{Format: "@Y-@m-@d @H:@M:@S.@N %t %p"}, "2026-01-05 19:52:56.422285817 y 21.5\n", "56.422285817 y 21.5 0"},
		{"strftime with a zone", Config{Format: "@F @T @z %t %p"}, "2026-01-05 20:52:56 +0100 y 21.5\n", "56 y 21.5 0"},
		{"seconds of strftime", Config{Format: "@s.@N|%t|%p"}, "1767642776.500000000|y|a|b\n", "56.5 y a|b 0"},
		{"a time with a blank", Config{Format: "%I %t %p"}, "2026-01-05 19:52:56 y 1\n2026-01-05 20:52:56.5 +0100 y 2\n2026-01-05 19:52:57,123 y 3 4\n", "56 y 1 0; 56.5 y 2 0; 57.123 y 3 4 0"},
		{"width of the topic", Config{Format: "%U %12t %p"}, "1767642776.5          y/y 1\n1767642776.5 yyyy/yyyyyyyyy 1 2\n", "56.5 y/y 1 0; 56.5 yyyy/yyyyyyyyy 1 2 0"},
		{"topic at the left", Config{Format: "%U %-8t %p"}, "1767642776.5 y        1\n1767642776.5 a b      2\n", "56.5 y 1 0; 56.5 a b 2 0"},
		{"a payload that may be cut", Config{Format: "%U %t %4p"}, "1767642776 y 1234\n1767642776 y   12\n", "56 y 12 0/ 1: %p may have been cut at 4 bytes, which the format says"},
		{"a topic that may be cut", Config{Format: "%U %.3t %p"}, "1767642776 abc 1\n1767642776 ab 1\n", "56 ab 1 0/ 1: %t may have been cut at 3 bytes, which the format says"},
		{"hex in a text", Config{Format: "%U %t %x"}, "1767642776 y 00ff\n1767642776 y \n", "56 y \x00\xff 0; 56 y  0"},
		{"hex in groups", Config{Format: "%U %t %.4x"}, "1767642776 y 00ff 0102\n", "56 y \x00\xff\x01\x02 0"},
		{"JSON after a time", Config{Format: "%I %j"}, `2026-01-05T19:52:56+0000 {"topic":"y","payload":"1"}` + "\n", "56 y 1 0"},
		{"%J is NDJSON", Config{Format: "%J"}, `{"time":1767642776,"topic":"y","payload":1}` + "\n", "56 y 1 0"},
		{"flags of Python", Config{Format: "%U %t %q %r %p"}, "1767642776 y 1 True 7\n", "56 y 7 5"},
		{"a log of Home Assistant", Config{Format: "%I DEBUG (MainThread) [mqtt] Received message on %t (qos=%q): %p"}, "2026-01-05 19:52:56.123 DEBUG (MainThread) [mqtt] Received message on y/y (qos=1): on\n", "56.123 y/y on 1"},
		{"payload before text", Config{Format: `%U "%t" "%p"`}, "1767642776 \"y\" \"a \"b\" c\"\n", `56 y a "b" c 0`},
		{"payload in the middle", Config{Format: "%t %p %U"}, "y 21.5 1767642776\n", "56 y 21.5 0"},
		{"%l after the payload", Config{Format: "%t %p %l"}, "y 21.5 4\ny 21 5\n", "now y 21.5 0/ 2: a payload of 2 bytes, %l says 5"},
		{"OwnTracks", Config{Topic: "owntracks/j/p"}, "2026-01-05T19:52:56Z\t*                 \t{\"_type\":\"location\"}\n2026-01-05T19:52:57Z\tevent             \t{}\n", `56 owntracks/j/p {"_type":"location"} 0; 57 owntracks/j/p/event {} 0`},
		{"properties of MQTT.js", Config{}, `{"time":1767642776,"topic":"y","payload":"1","properties":{"payloadFormatIndicator":true,"contentType":null,"userProperties":{"a":["b","c"]}}}` + "\n" +
			`{"time":1767642776,"topic":"y","payload":"1","properties":{"x":1}}` + "\n", `56 y 1 0/ 2: malformed PUBLISH properties: unknown property "x"`},
		{"hex of PostgreSQL", Config{Columns: "payload=payload:hex"}, "time,topic,payload\n1767642776,y,\\x00ff\n", "56 y \x00\xff 0"},
		{"a wrong name", Config{Columns: "payload=msg"}, `{"time":1767642776,"topic":"y","payload":"1"}`, `/ 1: no payload: it has no "msg", which --columns names, but time, topic, payload`},
		{"objects over lines that begin with one", Config{}, "{\"topic\":\"y\",\n\"payload\":\"1\",\"time\":1767642776}\n", "56 y 1 0"},
		{"brackets that are no array", Config{Format: "[%I] %t %p"}, "[2026-01-05 19:52:56] y [1]\n", "56 y [1] 0"},
		{"array", Config{}, `[{"time":1767642776,"topic":"y","payload":{"a": 1.50, "b":"] \"}"}},` + "\n  " + `{"time":1767642777,"topic":"y","payload":"2"}, 7]` + "\n", `56 y {"a":1.50,"b":"] \"}"} 0; 57 y 2 0/ 3: byte 1: '7' where '{' is expected`},
		{"array that is cut", Config{}, `[{"time":1767642776,"topic":"y","payload":"1"},` + "\n", `56 y 1 0/ 2: the array around the objects does not end: the file is cut short`},
		{"array that is cut in a message", Config{}, `[{"time":1767642776,"topic":"y","payload":"1"},{"topic":"y`, `56 y 1 0/ 2: byte 12: a string does not end`},
		{"empty array", Config{}, "[]\n", ""},
		{"pretty-printed", Config{}, "{\r\n  \"time\": 1767642776,\r\n  \"topic\": \"y\",\r\n  \"payload\": {\r\n    \"a b\": [1, 2]\r\n  }\r\n}\r\n{\n \"topic\": \"y\", \"payload\": \"2\", \"time\": 1767642777\n}\n", `56 y {"a b":[1,2]} 0; 57 y 2 0`},
		{"MQTTX", Config{}, `[{"clientId":"m","messages":[{"createAt":"2026-01-05 19:52:56:123","topic":"y","payload":"1"}]}]`, "/ 1: no payload: the messages are an array in it, and are read from: jq -c '.. | .messages? | arrays[]' FILE | mqttetl import -"},
		{"MQTTX, taken apart", Config{Columns: "time=createAt"}, `{"createAt":"2026-01-05 19:52:56:123","topic":"y","payload":"1","qos":1,"retain":false}`, "56.123 y 1 1"},
	} {
		records, s, why, err := said(c.cfg, c.text)
		got := strings.Join(records, "; ")
		for _, w := range why {
			got += "/ " + w
		}
		if err != nil || got != c.want || s.Rejected != int64(len(why)) || s.Imported != int64(len(records)) {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

// Only lines that hold several objects are taken apart, not payloads that look so.
func TestSpread(t *testing.T) {
	for text, want := range map[string]bool{
		`{"topic":"a","payload":"{} {}"}` + "\n{}\n": false,
		`{"topic":"a","payload":{"b":"} {"}}`:        false,
		`{"topic":"a"} {"topic":"b"}`:                true,
		`{"topic":"a"}{"topic":"b"}` + "\n":          true,
		"{\n\"topic\":\"a\"}":                        true,
		"[{}]":                                       true,
	} {
		if got := spread([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
