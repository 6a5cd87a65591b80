package mqttetl_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// arrows is which packages of ours a package may import, as DESIGN.md draws it
// (section 3). All but the root may import the root and what is in tools; a
// slash at the end names a folder, and its own packages may import each other.
var arrows = map[string]string{
	"": "", // the words that all share

	// Movers never import each other, nor a store.
	"ingest/session":     "", // knows no link
	"ingest/":            "ingest/session",
	"ingest/door":        "ingest ingest/session ingest/door/access",
	"ingest/door/access": "",
	"batch/decode":       "",
	"batch/transform":    "batch/decode",
	"batch":              "batch/transform",
	"forward/":           "",

	// Stores know no mover.
	"sink/wal":           "",
	"sink/archive":       "sink/archive/pages",
	"sink/archive/pages": "",
	"sink/history":       "sink/wal sink/archive",

	// Here they meet.
	"internal/pipeline": "ingest ingest/door forward batch batch/decode batch/transform sink/archive sink/history sink/wal internal/config",
	"cmd/mqttetl": "internal/pipeline internal/config internal/doctor internal/mosquitto internal/routetest internal/rerun ingest/importer forward forward/export forward/replay batch/transform " +
		"sink/archive sink/history sink/wal internal/reporters internal/simulate bench/compare bench/report deploy internal/embedded",

	"internal/config":    "batch/transform ingest/door/access",
	"internal/rerun":     "internal/pipeline internal/config batch/transform forward sink/archive",
	"internal/mosquitto": "",
	"internal/doctor":    "ingest/session internal/config internal/pipeline forward sink/wal",
	"internal/routetest": "internal/config batch/transform",
	"internal/simulate":  "internal/config",
	"internal/embedded":  "",
	"internal/reporters": "internal/pipeline",
	"deploy":             "",

	// What measures and tests.
	"test/servers/": "",
	"test/service":  "test/servers",
	"test/brokers":  "",
	"test/e2e":      "test/service",
	"test/prove/":   "test/e2e test/servers test/service batch sink/archive sink/wal",
	"bench/":        "internal/config internal/embedded test/servers test/service batch batch/transform sink/archive sink/wal",
}

// tools import the root and each other, and anybody may import them.
const tools = "internal/backoff internal/client internal/dial internal/disk internal/histogram internal/journal internal/jsonstring internal/mosquitto/format internal/natsmsg internal/news internal/processes " +
	"internal/secret internal/self internal/spool internal/visible internal/wire sink/store"

// TestArrows: packages import what they may, and the table names nothing that is not so.
func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/mqttetl/mqttetl"
	ours := func(path string) (string, bool) {
		rest, ok := strings.CutPrefix(path, module)
		return strings.TrimPrefix(rest, "/"), ok
	}
	used := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, _ := ours(p.ImportPath)
		room := roomOf(name)
		if room == "?" {
			t.Errorf("%s has no place in the table", name)
			continue
		}
		used[room] = true
		for _, path := range p.Imports {
			to, ok := ours(path)
			if !ok || name != "" && to == "" || room != "" && slices.Contains(strings.Fields(tools), to) || room != "" && roomOf(to) == room {
				continue
			}
			if !slices.Contains(strings.Fields(arrows[room]), to) {
				t.Errorf("%s may not import %s", name, to)
			}
			used[room+" "+to] = true
		}
	}
	for room, list := range arrows {
		if !used[room] {
			t.Errorf("the table names %s, which is not there", room)
		}
		for _, to := range strings.Fields(list) {
			if !used[room+" "+to] {
				t.Errorf("the table lets %s import %s, which it does not", room, to)
			}
		}
	}
}

// Some texts are written in one place only: SQL and the names of stages.
func TestTextsInOnePlace(t *testing.T) {
	once := []struct {
		text  *regexp.Regexp
		where string // a file, or a folder
	}{
		{regexp.MustCompile("[`\"](SELECT|INSERT|UPDATE|DELETE FROM|CREATE TABLE|PRAGMA) "), "sink/archive/"},
		{regexp.MustCompile(`"(transform|publish):"`), "record.go"},
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && slices.Contains([]string{"test", "bench", "deploy"}, path) {
			return cmp.Or(err, fs.SkipDir)
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		for _, o := range once {
			if at := o.text.FindIndex(source); at != nil && !strings.HasPrefix(path, o.where) {
				t.Errorf("%s has %.40q, which belongs to %s", path, source[at[0]:], o.where)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// roomOf is the row of a package: its own, "tools", or the longest folder that it is in. "?" is none.
func roomOf(name string) string {
	if _, ok := arrows[name]; ok {
		return name
	}
	if slices.Contains(strings.Fields(tools), name) {
		return "tools"
	}
	best := "?"
	for room := range arrows {
		if strings.HasSuffix(room, "/") && strings.HasPrefix(name+"/", room) && (best == "?" || len(room) > len(best)) {
			best = room
		}
	}
	return best
}
