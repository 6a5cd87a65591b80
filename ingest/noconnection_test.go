package ingest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// site answers every request with status and body.
func site(t *testing.T, status int, body string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http:", "ws:", 1) + "/mqtt"
}

// TestNoConnection: what is no broker, or not the one that is trusted, is told
// once with what to do, and tried again ever more slowly.
func TestNoConnection(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	tls := func(name string, life time.Duration) string {
		cert, key := issue(t, a, name, life)
		m := startMosquitto(t, "certfile "+cert+"\nkeyfile "+key)
		return "mqtts://" + m.Addr
	}
	valid, expired := tls("valid", time.Hour), tls("expired", -time.Minute)
	for name, c := range map[string]struct {
		url, ca    string
		says, hint string
	}{
		"expired certificate": {expired, a.CA(), "certificate has expired or is not yet valid", "renew the server's certificate"},
		"wrong authority":     {valid, other.CA(), "unknown authority", "the CA file (tls.ca, --ca, --cafile)"},
		"another name":        {strings.Replace(valid, "127.0.0.1", "localhost", 1), a.CA(), "certificate is valid for broker.test, not localhost", "tls.server_name"},
		"not found":           {site(t, http.StatusNotFound, "not found"), "", "HTTP 404 Not Found, text/html", "no MQTT at this path"},
		"a web page":          {site(t, http.StatusOK, "<html>hello</html>"), "", "HTTP 200 OK, text/html", "no MQTT at this path"},
	} {
		for _, version := range []string{Version5, Version311} {
			t.Run(name+" "+version, func(t *testing.T) {
				lines := &logLines{}
				s := newSource(t, Config{URL: c.url, TLS: TLS{CA: c.ca}, ClientID: "c", Version: version,
					Subscribe: []string{"t"}, Logger: lines.logger()}, newFakeLog(t))
				l := s.links[0]
				start(t, s)
				eventually(t, "several attempts", func() bool { return gaugeValue(t, l.counters.failed) >= 4 })
				if lines.count("\n") != 1 || lines.count(c.says) != 1 || lines.count(c.hint) != 1 || lines.count("level=WARN") != 1 {
					t.Errorf("log says\n%s", lines)
				}
				if st := s.Stats(); st.Connected || !strings.Contains(st.Error, c.says) {
					t.Errorf("stats %+v", st)
				}
				if d := l.delay(); d < 2*l.pace.first {
					t.Errorf("the next attempt follows in %s", d)
				}
			})
		}
	}
}
