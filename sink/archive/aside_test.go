package archive

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"modernc.org/sqlite"

	"github.com/mqttetl/mqttetl"
)

// TestValuesThatARowCannotHold: such a record is a row without the value, which
// stands in table raw; those before and after it are whole.
func TestValuesThatARowCannotHold(t *testing.T) {
	const limitLength = 0 // SQLITE_LIMIT_LENGTH
	large := bytes.Repeat([]byte("\x01"), 60_000)
	user := append([]byte{byte(mqttetl.UserProperty), 0, 1, 'a', byte(len(large) >> 8), byte(len(large) & 0xff)}, large...)
	properties := bytes.Repeat(user, rowProperties/len(user)+1)
	for _, c := range []struct {
		name       string
		payload    []byte
		properties []byte
		raw        string // name, parts, bytes
	}{
		{"properties", []byte("p"), properties, fmt.Sprintf("properties|%d|%d", (len(properties)-1)/rawPart+1, len(properties))},
		{"payload", bytes.Repeat([]byte("x"), 900_000), nil, "payload|4|900000"},
		{"payload with NUL", make([]byte, 900_000), nil, "payload|4|900000"},
		{"JSON of properties", []byte("p"), bytes.Repeat(user, 3), fmt.Sprintf("payload|1|1\nproperties|1|%d", 3*len(user))},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			a := mustOpen(t, path)
			if c.name != "properties" { // SQLite's own limit is a thousand times that
				_, err := sqlite.Limit(a.conn, limitLength, 800_000)
				must(t, err)
			}
			rs := records(1, 9)
			rs[4].Payload, rs[4].Properties = c.payload, c.properties
			must(t, a.Append(rs))
			must(t, a.Commit())
			letters := a.Aside()
			if len(letters) != 1 || letters[0].Seq != 5 || letters[0].Stage != "archive" {
				t.Errorf("dead letters %v, want one of record 5", letters)
			}
			must(t, a.Append(records(10, 12)))
			must(t, a.Commit())
			must(t, a.Close())
			sound(t, path, 12)
			for query, want := range map[string]string{
				"select count(*), sum(payload = 'payload ' || seq) from messages":                        "12|11",
				"select seq, stage from dead_letters":                                                    "5|archive",
				"select name, count(*), sum(length(bytes)) from raw where seq = 5 group by 1 order by 1": c.raw,
				"select count(*) from raw where seq <> 5":                                                "0",
				"select properties is null from messages where seq = 5":                                  "1",
			} {
				if got := shell(t, path, query); got != want {
					t.Errorf("%s: %s, want %s", query, got, want)
				}
			}
		})
	}
}

// TestRolledBackNothingIsAside: what was undone is told by the attempt that succeeds.
func TestRolledBackNothingIsAside(t *testing.T) {
	a := mustOpen(t, filepath.Join(t.TempDir(), "a.db"))
	defer a.Close()
	rs := records(1, 1)
	rs[0].Properties = bytes.Repeat([]byte{byte(mqttetl.SubscriptionIdentifier), 1}, rowProperties)
	for range 2 {
		must(t, a.Append(rs))
		must(t, a.Rollback())
	}
	must(t, a.Append(rs))
	must(t, a.Commit())
	if n := len(a.Aside()); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}
