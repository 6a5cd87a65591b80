package importer

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/export"
)

// MQTT has no topic that is not UTF-8. One that a lenient broker delivered all
// the same comes back in the forms of export, which TestReadsWhatWasExported
// draws too.
func TestTopicsThatAreNotUTF8(t *testing.T) {
	bad := mqttetl.Record{Source: "s", Message: mqttetl.Message{Topic: []byte("\xfc/x")}}
	for _, c := range []struct {
		name, format, text string
		good               bool
	}{
		{"CSV", "", "time,topic,payload\n1767323045,\xfc/x,\n", false},
		{"CSV, a surrogate", "", "time,topic,payload\n1767323045,\xed\xa0\x80,\n", false},
		{"CSV, not all columns of export", "", strings.Replace(export.CSVHeader, ",properties", "", 1) + "1,1767323045,\xfc/x,s,0,0,0,,\n", false},
		{"text", "%t %p", "\xfc/x 1\n", false},
		{"NDJSON", "", "{\"topic\":\"\xfc/x\",\"payload\":\"\"}\n", false},
		{"CSV, NUL", "", "time,topic,payload\n1767323045,a\x00b,\n", false},
		{"NDJSON, NUL", "", `{"topic":"a\u0000b","payload":""}` + "\n", false},
		{"CSV, UTF-8", "", "time,topic,payload\n1767323045,ü/x,\n", true},
		{"NDJSON of export", "", string((&export.JSON{}).Append(nil, &bad)), true},
		{"CSV of export", "", string((&export.CSV{}).Append([]byte(export.CSVHeader), &bad)), true},
	} {
		why := ""
		recs, stats, err := dry(Config{Format: c.format, Bad: func(_ int64, err error) { why = err.Error() }}, []byte(c.text))
		if err != nil || c.good != (len(recs) == 1 && stats.Rejected == 0) || c.good != (why == "") {
			t.Errorf("%s: %d records, %+v, %v, %s", c.name, len(recs), stats, err, why)
		}
		if !c.good && !strings.Contains(why, "is not UTF-8") && !strings.Contains(why, "NUL") {
			t.Errorf("%s: rejected because %s", c.name, why)
		}
	}
}

// An empty cell is no time, as a line that has none.
func TestEmptyTimeIsThePresentOne(t *testing.T) {
	for _, line := range []string{",a,", `"",a,`} {
		before := time.Now().UnixNano()
		recs, stats, err := dry(Config{}, []byte("time,topic,payload\n"+line+"\n"))
		if err != nil || stats.Rejected > 0 || len(recs) != 1 || recs[0].Time < before || recs[0].Time > time.Now().UnixNano() {
			t.Errorf("%s: %+v, %+v, %v", line, recs, stats, err)
		}
	}
}

func TestTimesWithoutAZone(t *testing.T) {
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		zone       *time.Location
		time, want string
	}{
		{nil, "2026-07-02T03:04:05.5", "2026-07-02T03:04:05.5Z"},
		{time.UTC, "2026-07-02 03:04:05.5", "2026-07-02T03:04:05.5Z"},
		{rome, "2026-07-02T03:04:05.5", "2026-07-02T01:04:05.5Z"},
		{rome, "2026-01-02 03:04:05.000000001", "2026-01-02T02:04:05.000000001Z"},
		{rome, "2026-07-02T03:04:05Z", "2026-07-02T03:04:05Z"},
		{rome, "2026-07-31T03:04:05-0100", "2026-07-31T04:04:05Z"},
		{rome, "1767323045", "2026-01-02T03:04:05Z"},
	} {
		for form, text := range map[string]string{
			"CSV": "time,topic,payload\n" + c.time + ",a,\n", "JSON": `{"time":"` + c.time + `","topic":"a","payload":""}`,
			"JSON with two times": `{"time":"` + c.time + `","tst":"2020-01-01T00:00:00","topic":"a","payload":""}`,
		} {
			recs, stats, err := dry(Config{Zone: c.zone}, []byte(text))
			if err != nil || len(recs) != 1 || recs[0].Time != at(c.want) {
				t.Errorf("%s: %s in %v is not %s: %+v, %+v, %v", form, c.time, c.zone, c.want, recs, stats, err)
			}
		}
	}
}

// slow answers a batch only when it is told to, and fails the first.
type slow struct {
	Log
	taken []*mqttetl.Batch
	first chan struct{}
}

func (s *slow) Append(b *mqttetl.Batch) {
	s.taken = append(s.taken, b)
	if len(s.taken) == 2 {
		close(s.first)
	}
}

func (s *slow) Note(string) ([]byte, error) { return nil, nil }

// After a failure too Run waits until the log is done with all that it was given.
func TestRunWaitsAfterAFailure(t *testing.T) {
	log := &slow{first: make(chan struct{})}
	m, err := New(Config{Name: "f", In: strings.NewReader("{\"topic\":\"a\",\"source\":\"x\",\"payload\":\"\"}\n{\"topic\":\"a\",\"source\":\"y\",\"payload\":\"\"}\n"),
		Rejected: filepath.Join(t.TempDir(), "r")}, log)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- m.Run(t.Context()) }()
	<-log.first
	log.taken[0].Done(0, errKilled)
	select {
	case <-ended:
		t.Fatal("it returned before the second batch was answered")
	case <-time.After(100 * time.Millisecond): // long enough for one that does not wait
	}
	log.taken[1].Done(0, errKilled)
	if err := <-ended; !errors.Is(err, errKilled) {
		t.Error(err)
	}
}
