package report

import (
	"bytes"
	"encoding/csv"
	"errors"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/bench/compare"
)

// sample is a real run of mqttetl bench, with fewer cases and points.
func sample(t *testing.T) *compare.Report {
	t.Helper()
	f, err := os.Open("testdata/sample.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bad is the sample after a bad day.
func bad(t *testing.T) *compare.Report {
	t.Helper()
	r := sample(t)
	lossy, odd, gone := find(r, "mqtt/qos0"), find(r, "jetstream/memory/async"), find(r, "jetstream/file/async")
	lossy.Loss, lossy.Summary.Lost, lossy.Rounds[1].Lost = true, 1234, 1234
	odd.Disagrees, odd.Summary.Reordered, odd.Summary.Duplicated, odd.Rounds[0].Refused = true, 7, 3, 5
	odd.Rounds[0].Counters = []compare.Counter{{Server: "nats", Name: "/varz in_msgs", Change: 10, Ours: 12, Note: "<script>alert(1)</script>"}}
	gone.Rounds, gone.Summary, gone.Incomplete, gone.Error = nil, compare.Summary{}, true, "no JetStream </pre><script>alert(2)</script>\x1b[2J"
	short := find(r, "mqtt/qos1")
	short.Rounds, short.Incomplete = short.Rounds[:1], true
	find(r, "nats/core/rate=1000").Summary.EndToEnd.Count = 1e6 // the last label of the axis is at its end
	r.Interrupted, r.Machine.InMemory = true, true
	return r
}

func TestReadReadsWhatJSONWrites(t *testing.T) {
	want := sample(t)
	var b bytes.Buffer
	if err := JSON(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(b.Bytes()))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("another report comes back: %v", err)
	}
	for what, text := range map[string]string{
		"nothing": "", "no JSON": "a", "another document": `{"a":1}`, "two": b.String() + "{}", "half": b.String()[:b.Len()/2],
		"another schema": strings.Replace(b.String(), `"schema": 1`, `"schema": 2`, 1),
	} {
		if _, err := Read(strings.NewReader(text)); !errors.Is(err, ErrNotReport) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Read(strings.NewReader(strings.Replace(b.String(), `"schema": 1`, `"schema": 1, "new": 1`, 1))); err != nil {
		t.Errorf("a field of a later version: %v", err)
	}
}

// Cases of different durability never stand together, and nothing is ranked.
func TestGroupsKeepDurabilitiesApart(t *testing.T) {
	r := sample(t)
	n, last := 0, -1
	for _, g := range groups(r) {
		order := -1
		for _, c := range g.Cases {
			n++
			if c.Durability.Class != g.Durability.Class || c.Durability.Text != g.Durability.Text || c.Mode != g.Mode {
				t.Errorf("%s stands in %s", c.ID, g.Title())
			}
			at := slices.IndexFunc(r.Cases, func(o compare.Case) bool { return o.ID == c.ID })
			if at < order {
				t.Errorf("%s: ranked", c.ID)
			}
			order = at
		}
		class := slices.Index(compare.Classes, g.Durability.Class)
		if g.Mode == compare.Throughput && class < last {
			t.Errorf("%s stands behind a stronger class", g.Title())
		}
		if g.Mode == compare.Throughput {
			last = class
		}
	}
	if n != len(r.Cases) {
		t.Errorf("%d cases of %d", n, len(r.Cases))
	}
}

func TestGroupsKeepShapesApart(t *testing.T) {
	r := sample(t)
	big := *find(r, "mqtt/qos1")
	big.ID, big.Size = "mqtt/qos1/size=16384", 16384
	r.Cases = append(r.Cases, big)
	titles := map[string]int{}
	for _, g := range groups(r) {
		if g.Mode == compare.Throughput {
			titles[g.Title()]++
		}
	}
	for _, want := range []string{"Acknowledged in memory; 128 bytes, 1→1", "Acknowledged in memory; 16,384 bytes, 1→1"} {
		if titles[want] != 1 {
			t.Errorf("no %q in %v", want, titles)
		}
	}
	if got := label(&big); got != "MQTT QoS 1, size 16384" {
		t.Errorf("label %q", got)
	}
}

func printed(t *testing.T, r *compare.Report, color bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := Table(&b, r, color); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// row is the line of a text that begins with the words.
func row(t *testing.T, text, begins string) []string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), begins) {
			return strings.Fields(line)
		}
	}
	t.Fatalf("no line begins with %q in\n%s", begins, text)
	return nil
}

func TestTable(t *testing.T) {
	text := printed(t, sample(t), false)
	for _, want := range []string{"\nNot acknowledged, as fast as it goes\n", "\nAcknowledged in memory, as fast as it goes\n",
		"\nSynced before the acknowledgement, as fast as it goes\n", "open loop at 1,000 messages/s\n", "lost  dup  reord", "payload 128 bytes, 1→1, 3 rounds"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got := row(t, text, "NATS core"); !slices.Equal(got[2:5], []string{"515,000", "281,000–1,130,000", "████████████████████"}) || !slices.Equal(got[len(got)-3:], []string{"0", "0", "0"}) {
		t.Errorf("%q", got)
	}
	if strings.Contains(text, "\x1b") || strings.Contains(text, "LOSS") {
		t.Error("colour or loss where there is none")
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(line)); n > 150 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestTableOfABadDay(t *testing.T) {
	text := printed(t, bad(t), false)
	for _, want := range []string{"interrupted:", "the servers' files are in memory", "LOSS: MQTT QoS 0: not acknowledged lost 1,234 messages",
		`JetStream file, async: no JetStream </pre><script>alert(2)</script>\x1b[2J`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got := strings.Join(row(t, text, "MQTT QoS 0"), " "); !strings.HasSuffix(got, " 1,234 0 0 LOSS") {
		t.Error(got)
	}
	if got := strings.Join(row(t, text, "JetStream memory, async"), " "); !strings.HasSuffix(got, " 0 3 7 duplicates, reordered, server counts otherwise, 5 refused") {
		t.Error(got)
	}
	if got := strings.Join(row(t, text, "MQTT QoS 1"), " "); !strings.HasSuffix(got, " 0 0 0 only 1 round") {
		t.Error(got)
	}
	if got := strings.Join(row(t, text, "JetStream file, async"), " "); !strings.Contains(got, "– ") || !strings.HasSuffix(got, "not measured") {
		t.Error(got)
	}
	if colored := printed(t, bad(t), true); !strings.Contains(colored, "\x1b[31;1m1,234\x1b[0m") || strings.Contains(colored, "\x1b[2J") {
		t.Errorf("%q", colored)
	}
}

func TestBar(t *testing.T) {
	for v, want := range map[float64]string{0: "", 100: strings.Repeat("█", 20), 50: strings.Repeat("█", 10), 2.5: "▌", 0.01: "▏", 53: strings.Repeat("█", 10) + "▋"} {
		if got := bar(v, 100); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestTexts(t *testing.T) {
	for _, c := range [][2]string{
		{grouped(1234567), "1,234,567"}, {grouped(-1000), "-1,000"}, {grouped(999), "999"}, {rateText(1479999), "1,480,000"}, {rateText(12.345), "12.3"}, {rateText(0), "0"},
		{took(999_700), "1 ms"}, {took(1500), "1.5 µs"}, {took(12), "12 ns"}, {took(2.345e9), "2.35 s"},
		{short(1.48e6), "1.48 M"}, {short(345_678), "346 k"}, {short(999_900), "1 M"}, {short(9876), "9,880"},
		{small(0.256), "0.26"}, {small(12345), "12,345"}, {bytesText(3 << 30), "3.0 GiB"}, {bytesText(5 << 20), "5 MiB"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
}

func TestCSV(t *testing.T) {
	r := bad(t)
	var b bytes.Buffer
	if err := CSV(&b, r); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := len(r.Cases)
	for _, c := range r.Cases {
		want += len(c.Rounds)
	}
	if len(rows)-1 != want {
		t.Errorf("%d rows, want %d", len(rows)-1, want)
	}
	cell := func(id, round, column string) string {
		i := slices.Index(rows[0], column)
		for _, row := range rows {
			if row[0] == id && row[1] == round {
				return row[i]
			}
		}
		return "?"
	}
	core := find(r, "nats/core")
	for _, c := range []struct{ id, round, column, want string }{
		{"nats/core", "all", "published_per_s", number(core.Summary.PublishRate.Median)},
		{"nats/core", "2", "published_per_s", number(core.Rounds[1].PublishRate)},
		{"nats/core", "all", "confirm_p99_ns", ""},
		{"mqtt/qos0", "all", "lost", "1234"},
		{"mqtt/qos0", "1", "lost", "0"},
		{"jetstream/file/async", "all", "server_cpu_us", ""},
		{"pipeline", "3", "end_to_end_p99_ns", strconv.FormatInt(find(r, "pipeline").Rounds[2].EndToEnd.P99.Nanoseconds(), 10)},
		{"pipeline", "all", "durability_class", "pipeline"},
	} {
		if got := cell(c.id, c.round, c.column); got != c.want {
			t.Errorf("%s, round %s, %s: %q, want %q", c.id, c.round, c.column, got, c.want)
		}
	}
}
