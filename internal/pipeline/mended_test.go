package pipeline

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/sink/store"
)

// What is published of messages in which something is wrong is counted, and said once.
func TestMapperSaysWhatItMends(t *testing.T) {
	set, err := transform.Compile([]transform.Route{{Name: "temps", Topic: "t", Decode: "json", Publish: "out", Time: transform.Time{Path: ".at?"},
		Columns: []transform.Column{{Name: "t", Type: store.Real, Path: ".t"}}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMapper(set)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	reg := prometheus.NewRegistry()
	m.tell(newMapperMetrics(reg), slog.New(slog.NewTextHandler(&log, nil)), nil)
	for i, payload := range []string{`{"t":nan}`, `{"t":2}`, `{"t":3,"at":1}`, `{"t":nan`, `{"t":NaN,"at":2.3}`} {
		rec := mqttetl.Record{Seq: mqttetl.Seq(i + 1), Time: 1, Message: mqttetl.Message{Topic: []byte("t"), Payload: []byte(payload)}}
		m.Map(&rec)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue()
	}
	if got["mqttetl_publish_mended_total"] != 2 || got["mqttetl_publish_unset_times_total"] != 2 {
		t.Errorf("counted %v", got)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 2 || !strings.Contains(log.String(), "route=temps seq=1") || !strings.Contains(log.String(), "route=temps seq=3") {
		t.Errorf("said\n%s", log.String())
	}
}
