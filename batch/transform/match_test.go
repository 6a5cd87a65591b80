package transform

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/sink/store"
)

// An empty payload, which clears a retained message, is nothing to a route of
// whatever format, unless it asks for it.
func TestEmptyPayloads(t *testing.T) {
	descriptor := filepath.Join(t.TempDir(), "b.pb")
	if out, err := exec.Command("protoc", "--proto_path=../decode", "--include_imports", "-o", descriptor, "sparkplug_b.proto").CombinedOutput(); err != nil {
		t.Fatalf("protoc (apt-get install protobuf-compiler): %v\n%s", err, out)
	}
	for _, format := range decode.Formats() {
		for _, retained := range []bool{false, true} {
			r := Route{Name: "r", Topic: "spBv1.0/g/NDATA/n", Decode: format, Table: "x", Columns: []Column{{"c", store.Text, "."}}}
			if format == "protobuf" {
				r.Descriptor, r.Message = descriptor, "mqttetl.sparkplug.Payload"
			}
			for _, r := range []Route{r, withJQ(r)} {
				rec := record(r.Topic, "")
				if retained {
					rec.Flags |= mqttetl.FlagRetain
				}
				made := func(r Route) string {
					a := applier(t, Options{}, r)
					a.Apply(rec)
					return strings.TrimSpace(show(a))
				}
				want := ""
				if format == "protobuf" && !retained {
					want = `x: 7 received "{\"metrics\":[]}"`
				}
				if got := made(r); !strings.HasPrefix(got, want) || want == "" && got != "" {
					t.Errorf("%s, retained %v: got %s", format, retained, got)
				}
				r.Empty, want = true, "x: 7 received NULL"
				switch format {
				case "text", "raw":
					want = `x: 7 received ""`
				case "protobuf":
					want = `x: 7 received "{\"metrics\":[]}"`
				}
				if format == "raw" {
					r.Columns[0].Type, want = store.Blob, "x: 7 received x"
				}
				if got := made(r); !strings.HasPrefix(got, want) {
					t.Errorf("%s, retained %v, empty: got %s, want %s", format, retained, got, want)
				}
			}
		}
	}
	r := values("REAL .a?")
	r.Empty, r.When = true, ". == null"
	if got := apply(t, Options{}, r, "t", ""); got != "x: 7 received NULL" {
		t.Errorf("when does not see it: %s", got)
	}
	r.When = ". != null"
	if got := apply(t, Options{}, r, "t", ""); got != "" {
		t.Errorf("when lets it pass: %s", got)
	}
}

// Nothing is nothing, compressed or not.
func TestEmptyCompressed(t *testing.T) {
	var b bytes.Buffer
	must(t, gzip.NewWriter(&b).Close())
	for _, compressed := range []string{"auto", "gzip"} {
		for _, payload := range []string{"", b.String()} {
			r := values("REAL .a?")
			r.Decompress = compressed
			if got := apply(t, Options{}, r, "t", payload); got != "" {
				t.Errorf("%s of %d bytes: got %s", compressed, len(payload), got)
			}
			r.Empty = true
			if got := apply(t, Options{}, r, "t", payload); got != "x: 7 received NULL" {
				t.Errorf("%s of %d bytes, empty: got %s", compressed, len(payload), got)
			}
		}
	}
}

// jq knows the topic and its names wherever it stands.
func TestVariables(t *testing.T) {
	for name, c := range map[string]struct {
		route       func(r *Route)
		topic, want string
	}{
		"when":           {func(r *Route) { r.When = `$device | startswith("kitchen/")` }, "z/kitchen/lamp", `x: 7 received "kitchen/lamp" 1`},
		"when not":       {func(r *Route) { r.When = `$topic != "z/kitchen/lamp"` }, "z/kitchen/lamp", ``},
		"map":            {func(r *Route) { r.Map = `{v: ($device | length)}` }, "z/a/b", `x: 7 received "a/b" 3`},
		"shorthand":      {func(r *Route) { r.Map = `{$topic} | {v: .topic | length}` }, "z/a/b", `x: 7 received "a/b" 5`},
		"interpolation":  {func(r *Route) { r.Columns[0] = Column{"v", store.Text, `"\($topic)!"`} }, "z/a", `x: 7 received "a" "z/a!"`},
		"column":         {func(r *Route) { r.Columns[0] = Column{"v", store.Text, `$topic + $device`} }, "z/a", `x: 7 received "a" "z/aa"`},
		"time":           {func(r *Route) { r.Time = Time{Path: `$device | tonumber`, NotBefore: "any"} }, "z/5", `x: 7 5000000000 "5" 1`},
		"own variable":   {func(r *Route) { r.Map = `1 as $device | {v: $device}` }, "z/a", `x: 7 received "a" 1`},
		"named topic":    {func(r *Route) { r.Topic, r.Map = "z/{topic}", `{v: ($topic | length)}` }, "z/abc", `x: 7 received "abc" 3`},
		"several routes": {func(r *Route) { r.Topic, r.Columns[0].Path = "{a}/{b}", `.v + ($b | tonumber)` }, "z/4", `x: 7 received "z" "4" 5`},
	} {
		r := Route{Name: "r", Topic: "z/{device...}", Table: "x", Columns: []Column{{"v", store.Integer, ".v"}}}
		c.route(&r)
		if got := apply(t, Options{}, r, c.topic, `{"v":1}`); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
	r := values("REAL .")
	r.Topic, r.When = "z/{device...}", `$name == "x"`
	if _, err := Compile([]Route{r}); err == nil || !strings.Contains(err.Error(), "when: variable not defined: $name, only $topic, $device") {
		t.Errorf("%v", err)
	}
	r.Topic, r.When = "z/{ENV}", `$ENV == "x"`
	if _, err := Compile([]Route{r}); err == nil || !strings.Contains(err.Error(), "the environment") {
		t.Errorf("%v", err)
	}
}

// Names with slashes can be routed, and what is below them left out.
func TestExclude(t *testing.T) {
	r := values("REAL .")
	r.Topic = "z/{device...}"
	r.Exclude = []string{"z/bridge/#", "z/{device...}/set", "z/.../get/+", "+/.../availability"}
	a := applier(t, Options{}, r)
	var taken []string
	for _, topic := range []string{"z/lamp", "z/kitchen/lamp", "z/set", "z/lamp/set", "z/kitchen/lamp/set", "z/lamp/set/on", "z/lamp/get", "z/lamp/get/on",
		"z/a/b/get/on", "z/bridge/state", "z/bridge", "z/a/availability", "z/a/b/availability"} {
		if a.Takes([]byte(topic)) {
			taken = append(taken, topic)
		}
	}
	if want := []string{"z/lamp", "z/kitchen/lamp", "z/set", "z/lamp/set/on", "z/lamp/get"}; !slices.Equal(taken, want) {
		t.Errorf("taken: %v, want %v", taken, want)
	}
	r.Exclude = []string{"a/#/set"}
	if _, err := Compile([]Route{r}); err == nil || !strings.Contains(fmt.Sprint(err), `exclude: "a/#/set": # is allowed only at the end`) {
		t.Errorf("%v", err)
	}
}
