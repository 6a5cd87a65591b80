package batch

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Messages whose jq ends its process are dead letters; all others have one row
// each, in their order, and the cursor passes.
func TestBombsAmongRecords(t *testing.T) {
	path, log := filepath.Join(t.TempDir(), "a.db"), newMemoryLog()
	var texts []string
	for i := range 3000 {
		n := 1 + i%9
		if i == 700 || i == 1500 || i == 2200 {
			n = 500_000_000
		}
		texts = append(texts, "t", fmt.Sprintf(`{"n":%d}`, n))
	}
	log.send(texts...)
	b := startRoutes(t, path, log, transform.Route{Name: "bomb", Topic: "t", Map: `{x: ("s" * .n | length)}`, Table: "bombs",
		Columns: []transform.Column{{Name: "x", Type: store.Integer}}})
	log.archived(t)
	b.stop()
	for query, want := range map[string]string{
		"select count(*), count(distinct b.seq), sum(x = json_extract(payload, '$.n')) from bombs b join messages m on b.seq = m.seq": "2997|2997|2997",
		"select count(*) from (select seq, lag(seq) over (order by rowid) as previous from bombs) where seq <= previous":              "0",
		"select count(*) from messages": "3000",
		"select group_concat(seq), count(distinct reason) from dead_letters where stage = 'transform:bomb'": "701,1501,2201|1",
	} {
		if got := shell(t, path, query); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	if got := shell(t, path, "select min(reason) from dead_letters"); !strings.HasPrefix(got, "the jq programs of the route needed too much memory") {
		t.Errorf("the reason is %s", got)
	}
}
