package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gaugeValue is the value of a metric without labels of its own.
func gaugeValue(t testing.TB, c prometheus.Collector) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil || len(families) != 1 {
		t.Fatal(families, err)
	}
	m := families[0].GetMetric()[0]
	return m.GetGauge().GetValue() + m.GetCounter().GetValue()
}

func TestNewNamesWhatIsImpossible(t *testing.T) {
	good := Config{URL: "mqtt://broker", ClientID: "c", Subscribe: []string{"#"}}
	if _, err := New(good, newFakeLog(t)); err != nil {
		t.Fatal(err)
	}
	for says, change := range map[string]func(*Config){
		"scheme":                         func(c *Config) { c.URL = "http://broker" },
		"no host":                        func(c *Config) { c.URL = "mqtt://" },
		"version":                        func(c *Config) { c.Version = "4" },
		"client id":                      func(c *Config) { c.ClientID = "" },
		"QoS 3":                          func(c *Config) { c.QoS = 3 },
		"nothing":                        func(c *Config) { c.Subscribe = nil },
		"# is allowed only":              func(c *Config) { c.Subscribe = []string{"a/#/b"} },
		"+ and # stand for whole levels": func(c *Config) { c.Subscribe = []string{"a+/b"} },
		"without a share":                func(c *Config) { c.Connections = 2 },
		"share":                          func(c *Config) { c.Share = "a/b" },
		"keepalive":                      func(c *Config) { c.KeepAlive = time.Millisecond },
		"both cert and key":              func(c *Config) { c.TLS.Cert = "x" },
		"retain handling 9":              func(c *Config) { c.Retained = 9 },
		"must not be empty":              func(c *Config) { c.Subscribe = []string{""} },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg, newFakeLog(t)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want an error about %q, got %v", says, err)
		}
	}
}

func TestPace(t *testing.T) {
	for failures, most := range map[int]time.Duration{
		1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 5: 1600 * time.Millisecond, 8: 2 * time.Second, 1000: 2 * time.Second,
	} {
		for range 100 {
			if d := defaultPace.delay(failures, false); d > most || d < most/2 {
				t.Fatalf("after %d failures: %s, want %s to %s", failures, d, most/2, most)
			}
		}
	}
	if d := defaultPace.delay(1, true); d < 5*time.Second {
		t.Fatalf("after a refused login: %s", d)
	}
}
