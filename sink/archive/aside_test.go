package archive

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"github.com/mqttetl/mqttetl"
)

// TestValuesThatARowCannotHold: such a record is a row without the value, which
// stands in table mqttetl_raw; those before and after it are whole.
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
			letters := a.setAsides()
			if len(letters) != 1 || letters[0].Seq != 5 || letters[0].Stage != "archive" {
				t.Errorf("dead letters %v, want one of record 5", letters)
			}
			must(t, a.Append(records(10, 12)))
			must(t, a.Commit())
			want := append(records(1, 12)[:4:4], rs[4])
			want = append(want, records(6, 12)...)
			scanned(t, path, want) // beside the service
			must(t, a.Close())
			scanned(t, path, want)
			sound(t, path, 12)
			for query, want := range map[string]string{
				"select count(*), sum(payload = 'payload ' || seq) from messages":                                "12|11",
				"select seq, stage from dead_letters":                                                            "5|archive",
				"select name, count(*), sum(length(bytes)) from mqttetl_raw where seq = 5 group by 1 order by 1": c.raw,
				"select count(*) from mqttetl_raw where seq <> 5":                                                "0",
				"select properties is null from messages where seq = 5":                                          "1",
			} {
				if got := shell(t, path, query); got != want {
					t.Errorf("%s: %s, want %s", query, got, want)
				}
			}
		})
	}
}

// scanned compares what a Reader returns, in all and from each record on.
func scanned(t *testing.T, path string, want []mqttetl.Record) {
	t.Helper()
	r, err := OpenReader(path)
	must(t, err)
	defer r.Close()
	for i := range want {
		got, err := scanAll(r, mqttetl.Selection{From: want[i].Seq})
		must(t, err)
		if len(got) != len(want)-i {
			t.Fatalf("%d records from %d on, want %d", len(got), want[i].Seq, len(want)-i)
		}
		for j := range got {
			if !sameRecord(&got[j], &want[i+j]) {
				t.Errorf("record %d has %d bytes of payload and %d of properties, want %d and %d", got[j].Seq,
					len(got[j].Payload), len(got[j].Properties), len(want[i+j].Payload), len(want[i+j].Properties))
			}
		}
	}
}

// TestAsideIsVerified: a value that is not whole is damage, told with its record, and not
// handed out as if nothing were missing.
func TestAsideIsVerified(t *testing.T) {
	for change, want := range map[string]string{
		"DELETE FROM mqttetl_raw WHERE part = 1":        "table mqttetl_raw, record 5: properties: parts are missing",
		"DELETE FROM mqttetl_raw":                       "table mqttetl_raw, record 5: value: missing, although a dead letter says that it is there",
		"UPDATE mqttetl_raw SET seq = 77 WHERE seq = 6": "table mqttetl_raw, record 6: value: missing, although a dead letter says that it is there\ntable mqttetl_raw, record 77: properties: its row is missing",
		"DROP TABLE mqttetl_raw":                        "",
	} {
		path := filepath.Join(t.TempDir(), "a.db")
		a := mustOpen(t, path)
		rs := records(1, 9)
		for i := 4; i < 6; i++ {
			rs[i].Properties = bytes.Repeat([]byte{byte(mqttetl.SubscriptionIdentifier), 1}, rowProperties)
		}
		must(t, a.Append(rs))
		must(t, a.Commit())
		must(t, a.Close())
		shell(t, path, change)
		report, err := Verify(t.Context(), path, true)
		must(t, err)
		var got []string
		for _, p := range report.Problems {
			got = append(got, p.String())
		}
		slices.Sort(got)
		if text := strings.Join(got, "\n"); !strings.HasPrefix(text, want) || (want == "") != (text == "") {
			t.Errorf("%s: verify says %q, want %q", change, text, want)
		}
		if !strings.Contains(change, "part = 1") {
			continue
		}
		r, err := OpenReader(path)
		must(t, err)
		if _, err := scanAll(r, mqttetl.Selection{}); !errors.Is(err, mqttetl.ErrDamaged) {
			t.Errorf("%s: Scan returns %v, want %v", change, err, mqttetl.ErrDamaged)
		}
		must(t, r.Close())
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
	if n := len(a.setAsides()); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}
