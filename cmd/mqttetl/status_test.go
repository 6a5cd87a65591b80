package main

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/internal/pipeline"
	"github.com/mqttetl/mqttetl/test/servers"
)

// Messages of QoS 0 are none that wait for an acknowledgement.
func TestStatusOfQoS0(t *testing.T) {
	t.Parallel()
	m, err := servers.StartMosquitto(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	s := newSite(t, m.URL, "")
	start(t, nil, "run", "-c", s.config)
	var got pipeline.Status
	asked := func() bool {
		r := call(t, "status", "-c", s.config, "-o", "json")
		return json.Unmarshal([]byte(r.out), &got) == nil && len(got.Sources) == 1
	}
	eventually(t, "the source is subscribed", func() bool { return asked() && got.Sources[0].Connected && got.Sources[0].Error == "" })
	host, port, _ := net.SplitHostPort(m.Addr)
	// retained, so that they come also if the filter is not granted yet
	for i, qos := range []string{"0", "0", "0", "1", "1", "2"} {
		mqttetlOut(t, 0, "pub", "-h", host, "-p", port, "-t", fmt.Sprint("a/", i), "-m", "x", "-r", "-q", qos)
	}
	eventually(t, "six messages", func() bool { return asked() && got.Sources[0].Received == 6 && got.Sources[0].Acknowledged == 3 })
	if got.Sources[0].QoS0 != 3 {
		t.Errorf("%+v, want 3 of QoS 0", got.Sources[0])
	}
	want := "received 6 (3 with QoS 0, which has no acknowledgement), acknowledged 3, redelivered 0"
	if r := call(t, "status", "-c", s.config, "-o", "table"); !strings.Contains(r.out, want) {
		t.Errorf("want %q in\n%s", want, r.out)
	}
}
