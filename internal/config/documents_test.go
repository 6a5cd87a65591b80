package config

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// known returns the keys that a mapping knows, by giving it one that it does not.
// nest puts a mapping where it belongs in a file.
func known(nest func(mapping string) string) []string {
	_, err := Parse("x", []byte(nest("{qqqqqqqq: 1}")), func(string) (string, bool) { return "", false })
	m := regexp.MustCompile(`unknown key "qqqqqqqq" in [a-z ]+, which knows ([a-z0-9_, ]+)`).FindStringSubmatch(err.Error())
	if m == nil {
		return nil
	}
	return strings.Split(m[1], ", ")
}

// everyKey walks through all mappings: a key whose value may be a mapping, or a
// list of mappings, is followed by its own keys.
func everyKey(path string, nest func(string) string, found map[string]bool) {
	for _, key := range known(nest) {
		whole := strings.TrimPrefix(path+"."+key, ".")
		inside := func(value string) string { return nest("{" + key + ": " + value + "}") }
		inList := func(mapping string) string { return inside("[" + mapping + "]") }
		switch {
		case len(known(inList)) > 0:
			everyKey(whole+"[]", inList, found)
		case len(known(inside)) > 0:
			everyKey(whole, inside, found)
		default:
			found[whole] = true
		}
	}
}

// docs/config.md has a row for each key, and for no other, with the default and
// what happens without the section.
func TestConfigDocumentHasEveryKey(t *testing.T) {
	keys := map[string]bool{}
	everyKey("", func(s string) string { return s }, keys)
	if len(keys) < 50 || !keys["sources[].tls.ca"] || !keys["archive.batch.count"] || !keys["routes[].decode.lenient"] {
		t.Fatalf("these keys were found: %v", slices.Sorted(maps.Keys(keys)))
	}
	text, err := os.ReadFile("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `((?:sources|listen|log|archive|nats|http|routes|tests)[a-z0-9_.\\[\\]]*)` \\| ([^|]+) \\| ([^|]+) \\| ").FindAllStringSubmatch(string(text), -1)
	for _, row := range rows {
		if !keys[row[1]] && row[1] != "routes[].decode" { // which may be the format alone
			t.Errorf("docs/config.md has %s, which is no key or has no row of its own", row[1])
		}
		delete(keys, row[1])
	}
	for key := range keys {
		t.Errorf("docs/config.md has no row for %s", key)
	}
}
