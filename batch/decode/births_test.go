package decode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// spStep is a message and what comes of it: name=value of each metric, or the
// error.
type spStep struct {
	message string // with the device behind a slash
	seq     int    // -1: none
	metrics []any
	want    string
	gaps    uint64
}

func born(name string, alias uint64, v int32) object {
	return object{"name": name, "alias": alias, "datatype": uint32(3), "int_value": uint32(v)}
}

func aliased(alias uint64, v int32) object { return object{"alias": alias, "int_value": uint32(v)} }

func bd(n uint64) object {
	return object{"name": "bdSeq", "datatype": uint32(8), "long_value": n}
}

func (s spStep) topic() string {
	message, device, isDevice := strings.Cut(s.message, "/")
	if isDevice {
		return "spBv1.0/g/" + message + "/n/" + device
	}
	return "spBv1.0/g/" + message + "/n"
}

func (s spStep) run(t *testing.T, d protoreflect.MessageDescriptor, dec Decoder) string {
	t.Helper()
	fields := object{"metrics": s.metrics}
	if s.seq >= 0 {
		fields["seq"] = uint64(s.seq)
	}
	docs, err := all(dec, s.topic(), encode(t, d, fields))
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, doc := range docs {
		if f, ok := doc.(Failed); ok {
			out = append(out, f.Err.Error())
			continue
		}
		out = append(out, fmt.Sprintf("%v=%v", doc.(object)["metric"], doc.(object)["value"]))
	}
	return strings.Join(out, " ")
}

// TestSparkplugSessions: aliases belong to a birth, which a newer birth or a
// death ends; seq counts over a node and its devices. Between any two messages
// the memory may be stored and read again.
func TestSparkplugSessions(t *testing.T) {
	d := payloadType(t)
	noNode, noDevice := "no NBIRTH of g/n before it", "no DBIRTH of g/n/d before it"
	steps := []spStep{
		{"NDATA", 7, []any{aliased(1, 1)}, "NDATA of g/n: " + noNode, 0},
		{"DBIRTH/d", 8, []any{born("x", 10, 1)}, "DBIRTH of g/n/d: " + noNode, 0},
		{"NCMD", -1, []any{object{"name": "Node Control/Rebirth", "datatype": uint32(11), "boolean_value": true}}, "Node Control/Rebirth=true", 0},
		{"NBIRTH", 0, []any{bd(4), born("t", 1, -5)}, "bdSeq=4 t=-5", 0},
		{"DDATA/d", 1, []any{aliased(10, 2)}, "DDATA of g/n/d: " + noDevice, 0},
		{"DBIRTH/d", 2, []any{born("x", 10, 1)}, "x=1", 0},
		{"DDATA/d", 3, []any{aliased(10, -2)}, "x=-2", 0},
		{"NDATA", 4, []any{aliased(1, -6), object{"name": "t", "int_value": uint32(7)}}, "t=-6 t=7", 0},
		{"NDATA", 5, []any{aliased(10, 0)}, "NDATA of g/n: metric 0: alias 10 is not in its birth", 0},
		{"NDATA", 6, nil, "", 0},
		{"NDATA", 8, nil, "", 1},                              // 7 is missing
		{"NDATA", 255, nil, "", 2},                            // so are many
		{"DDATA/d", 0, []any{aliased(10, 3)}, "x=3", 2},       // the successor of 255
		{"NCMD", -1, []any{aliased(1, 9)}, "t=9", 2},          // has no seq
		{"NDEATH", -1, []any{bd(3)}, "bdSeq=3", 2},            // of the session before
		{"NDATA", 1, []any{aliased(1, 2)}, "t=2", 2},          // still alive
		{"DDEATH/d", 2, nil, "", 2},                           //
		{"DDATA/d", 3, nil, "DDATA of g/n/d: " + noDevice, 2}, //
		{"DBIRTH/d", 4, []any{born("y", 10, 1)}, "y=1", 2},    //
		{"DDATA/d", 5, []any{aliased(10, 1)}, "y=1", 2},       // the alias means something else now
		{"NBIRTH", 0, []any{bd(4), born("u", 2, 1)}, "bdSeq=4 u=1", 2},
		{"DDATA/d", 1, []any{aliased(10, 1)}, "DDATA of g/n/d: " + noDevice, 2},
		{"NDATA", 2, []any{aliased(1, 1)}, "NDATA of g/n: metric 0: alias 1 is not in its birth", 2},
		{"NBIRTH", 0, []any{object{"alias": uint64(1)}}, "NBIRTH of g/n: metric 0: alias 1 is not in its birth", 2},
		{"NDATA", 1, []any{aliased(2, 1)}, "NDATA of g/n: metric 0: alias 2 is not in its birth", 2}, // it is of the birth before
		{"NBIRTH", 0, []any{bd(5), born("u", 2, 1)}, "bdSeq=5 u=1", 2},
		{"NDEATH", -1, []any{bd(5)}, "bdSeq=5", 2},
		{"NDATA", 1, []any{aliased(2, 1)}, "NDATA of g/n: " + noNode, 2},
	}
	memory := newMemory()
	for i, s := range steps {
		dec := mustNew(t, "sparkplug_b", Options{Births: memory})
		got := s.run(t, d, dec)
		if gaps := memory.sessions["g/n"].Gaps; got != s.want || gaps != s.gaps {
			t.Fatalf("step %d, %s: %s, %d gaps; want %s, %d", i, s.message, got, gaps, s.want, s.gaps)
		}
		memory = stored(t, memory)
	}

	// What failed in its turn is repaired by what is known at the end, and
	// changes nothing.
	before := fmt.Sprint(memory.sessions, memory.births["g/n"])
	retry := mustNew(t, "sparkplug_b", Options{Births: memory, Retry: true})
	if got := (spStep{"NDATA", 1, []any{aliased(2, 8)}, "", 0}).run(t, d, retry); got != "u=8" {
		t.Errorf("tried again: %s", got)
	}
	if got := (spStep{"NBIRTH", 0, []any{born("old", 2, 8)}, "", 0}).run(t, d, retry); got != "old=8" {
		t.Errorf("birth tried again: %s", got)
	}
	if after := fmt.Sprint(memory.sessions, memory.births["g/n"]); after != before {
		t.Errorf("the memory was %s and is %s", before, after)
	}
}

// stored is what comes back of a memory that is stored as JSON.
func stored(t *testing.T, m *memory) *memory {
	t.Helper()
	p, err := json.Marshal(object{"s": m.sessions, "b": m.births})
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		S map[string]Node
		B map[string]*Birth
	}
	if err := json.Unmarshal(p, &back); err != nil {
		t.Fatal(err)
	}
	return &memory{back.S, back.B}
}

// TestSparkplugTemplateMembers: a member's type is known from the birth when
// the data leave it out, so that -1 does not become 4294967295.
func TestSparkplugTemplateMembers(t *testing.T) {
	d := payloadType(t)
	motor := func(rpm object) []any {
		template := func(name string, member object) object {
			return object{"name": name, "datatype": uint32(19), "template_value": object{"metrics": []any{member}}}
		}
		return []any{template("line", template("motor", rpm))}
	}
	dec := mustNew(t, "sparkplug_b", Options{})
	for seq, rpm := range []object{
		{"name": "rpm", "datatype": uint32(2), "int_value": uint32(0xffff)},
		{"name": "rpm", "int_value": uint32(0xffffffff)},
	} {
		s := spStep{[]string{"NBIRTH", "NDATA"}[seq], seq, motor(rpm), "", 0}
		docs, err := all(dec, s.topic(), encode(t, d, object{"seq": uint64(seq), "metrics": s.metrics}))
		if err != nil {
			t.Fatal(err)
		}
		p, ok := ParsePath(".value.metrics.motor.metrics.rpm")
		if v, err := p.Get(docs[0]); !ok || v != -1 || err != nil {
			t.Errorf("%s: %v, %v", s.message, v, err)
		}
	}
}

// TestSparkplugState: hosts of version 3.0 and 2.2.
func TestSparkplugState(t *testing.T) {
	dec := mustNew(t, "sparkplug_b", Options{})
	for _, c := range []struct {
		topic, payload string
		online, at     any
		err            string
	}{
		{"spBv1.0/STATE/scada", `{"online":true,"timestamp":1668114759262}`, true, 1668114759262, ""},
		{"STATE/scada", `OFFLINE`, false, nil, ""},
		{"spBv1.0/STATE/scada", `{"online":1}`, nil, nil, "STATE of scada: no boolean online in it"},
		{"spBv1.0/STATE/scada", `{`, nil, nil, "STATE of scada: payload is not JSON: it ends too early, at byte 1"},
	} {
		docs, err := all(dec, c.topic, []byte(c.payload))
		if text(err) != c.err {
			t.Errorf("%s: %v", c.payload, err)
			continue
		}
		if err != nil {
			continue
		}
		doc := docs[0].(object)
		if doc["host"] != "scada" || doc["value"] != c.online || doc["timestamp"] != c.at || doc["message"] != "STATE" {
			t.Errorf("%s: %v", c.payload, doc)
		}
	}
	for _, topic := range []string{"a/b", "spBv1.0/g/NDATA/n/d", "spBv1.0/g/DDATA/n", "spBv1.0/g/X/n", "spBv1.0/g/NDATA/n/d/e", ""} {
		if _, err := all(dec, topic, nil); err == nil || !strings.Contains(err.Error(), "is not of Sparkplug") {
			t.Errorf("%q: %v", topic, err)
		}
	}
}

// TestSparkplugBroken: what a metric may not be, in words.
func TestSparkplugBroken(t *testing.T) {
	d := payloadType(t)
	metric := func(datatype uint32, name string, v any) []any {
		return []any{object{"name": "m", "datatype": datatype, name: v}}
	}
	for _, s := range []spStep{
		{"NBIRTH", 0, metric(23, "bytes_value", []byte{1}), "NBIRTH of g/n: metric m: an array of 1 bytes with elements of 2", 0},
		{"NBIRTH", 0, metric(32, "bytes_value", []byte{1}), "NBIRTH of g/n: metric m: a BooleanArray without its count", 0},
		{"NBIRTH", 0, metric(32, "bytes_value", []byte{9, 0, 0, 0, 1}), "NBIRTH of g/n: metric m: a BooleanArray of 9 with 1 bytes", 0},
		{"NBIRTH", 0, metric(33, "bytes_value", []byte("a")), "NBIRTH of g/n: metric m: a StringArray without its last zero byte", 0},
		{"NBIRTH", 0, metric(16, "dataset_value", object{"columns": []any{"a"}}), "NBIRTH of g/n: metric m: a DataSet of 1 columns and 0 types", 0},
		{"NBIRTH", 0, metric(16, "dataset_value", object{"columns": []any{"a"}, "types": []any{uint32(1)}, "rows": []any{object{}}}),
			"NBIRTH of g/n: metric m: row 0 of a DataSet: 0 elements for 1 columns", 0},
		{"NBIRTH", 0, metric(12, "string_value", "\xff"), "NBIRTH of g/n: metric m: a string with invalid UTF-8", 0},
		{"NBIRTH", 0, []any{object{"name": "m", "properties": object{"keys": []any{"k"}}}}, "NBIRTH of g/n: metric m: a PropertySet of 1 keys and 0 values", 0},
		// The specification's own examples, 6.4.17.
		{"NBIRTH", 0, metric(32, "bytes_value", []byte{12, 0, 0, 0, 0x34, 0xd0}), "m=[false false true true false true false false true true false true]", 0},
		{"NBIRTH", 0, metric(33, "bytes_value", []byte("ABC\x00hello\x00")), "m=[ABC hello]", 0},
		{"NBIRTH", 0, metric(24, "bytes_value", []byte{0x15, 0xcd, 0x5b, 0x07, 0xb1, 0x68, 0xde, 0x3a}), "m=[123456789 987654321]", 0},
	} {
		if got := s.run(t, d, mustNew(t, "sparkplug_b", Options{})); got != s.want {
			t.Errorf("%v: %s\nwant %s", s.metrics, got, s.want)
		}
	}
	if _, err := all(mustNew(t, "sparkplug_b", Options{}), "spBv1.0/g/NBIRTH/n", []byte{0x12, 5}); text(err) !=
		"NBIRTH of g/n: payload is not of Sparkplug B: unexpected EOF" {
		t.Errorf("%v", err)
	}
	many := bytes.Repeat([]byte{0x12, 0}, maxMetrics+1)
	if _, err := all(mustNew(t, "sparkplug_b", Options{}), "spBv1.0/g/NBIRTH/n", many); text(err) !=
		"NBIRTH of g/n: payload is not of Sparkplug B: it would take more memory than 4 times its size and 16 MiB" {
		t.Errorf("%v", err)
	}
	deep := object{"name": "x", "datatype": uint32(3), "int_value": uint32(1)}
	for range 20 {
		deep = object{"name": "x", "datatype": uint32(19), "template_value": object{"metrics": []any{deep}}}
	}
	got := (spStep{"NBIRTH", 0, []any{deep}, "", 0}).run(t, d, mustNew(t, "sparkplug_b", Options{MaxDepth: 10}))
	if !strings.Contains(got, errTooDeep.Error()) {
		t.Errorf("20 templates in each other: %s", got)
	}
}
