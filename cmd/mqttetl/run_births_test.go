package main

import (
	"path/filepath"
	"testing"
)

// pressData is data by the alias 2 of a birth.
const pressData = "COCi4f24MxISEAIY4KLh/bgzaQAAAAAAwDVAGAI="

const sparkplugRoute = "routes:\n  - {name: metrics, topic: 'spBv1.0/{group}/+/{edge}', decode: sparkplug_b, publish: 'sp.{edge}', columns: {message: TEXT, metric: TEXT, value: ANY}}\n"

// Names of a birth are known behind a restart, whether the archive or still the
// log has it.
func TestPublishedBirthsOutliveARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.sparkplug(t)
	w.routed(t, sparkplugRoute)
	w.publishes(t).terminate(t)
	path := filepath.Join(w.dir, "more.csv")
	writeFile(t, path, "ts,t,value\n1767642800,spBv1.0/plant/NDATA/press4,"+pressData+"\n")
	if r := call(t, "import", "-c", w.config, "--columns", "time=ts,topic=t,payload_base64=value", path); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	w.publishes(t).terminate(t)
	objects := w.objects(t, "TELEMETRY_MAPPED")
	if want := `4-metrics-0 sp.press4 {"message":"NDATA","metric":"Inputs/Temperature","value":21.75}`; len(objects) == 0 || objects[len(objects)-1] != want {
		t.Errorf("objects %q, want %q behind them", objects, want)
	}
}
