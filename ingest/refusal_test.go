package ingest

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

func TestPassword(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "passwords")
	if out, err := exec.Command("mosquitto_passwd", "-b", "-c", file, "etl", "secret").CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_passwd (apt-get install mosquitto): %v: %s", err, out)
	}
	m := startMosquitto(t, "allow_anonymous false\npassword_file "+file)
	for _, version := range []string{Version5, Version311} {
		t.Run(version, func(t *testing.T) {
			log, lines := newFakeLog(t), &logLines{}
			right := make(chan struct{})
			s := newSource(t, Config{URL: m.URL, ClientID: "c", Version: version, Username: "etl", Subscribe: []string{"t"},
				Logger: lines.logger(), Password: func() (string, error) {
					select {
					case <-right:
						return "secret", nil
					default:
						return "wrong", nil
					}
				}}, log)
			start(t, s)
			eventually(t, "several refusals", func() bool { s.links[0].mu.Lock(); defer s.links[0].mu.Unlock(); return s.links[0].failures >= 4 })
			if n := lines.count("refused the login"); n != 1 || lines.count("level=ERROR") != 1 || lines.count("hint=") != 1 {
				t.Fatalf("said it %d times:\n%s", n, lines)
			}
			if lines.count("wrong") != 0 {
				t.Fatal("the password is in the log")
			}
			close(right)
			subscribed(t, s)
		})
	}
}

func TestTwoClientsFightForOneSession(t *testing.T) {
	m := startMosquitto(t, "")
	for _, version := range []string{Version5, Version311} {
		t.Run(version, func(t *testing.T) {
			lines := &logLines{}
			cfg := Config{URL: m.URL, ClientID: "same" + version, Version: version, Subscribe: []string{"t"}, Logger: lines.logger()}
			rivals := []*Source{newSource(t, cfg, newFakeLog(t)), newSource(t, cfg, newFakeLog(t))}
			for _, s := range rivals {
				start(t, s)
			}
			eventually(t, "a long fight at the slow pace", func() bool {
				l := rivals[0].links[0]
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.brief >= closedOften+5 && l.slow >= 5
			})
			if lines.count("the same client_id") == 0 || lines.count("\n") > 2*(2*closedAgain+4) {
				t.Fatalf("log says\n%s", lines)
			}
		})
	}
}

// A fight that is over is over once a connection has lasted.
func TestConnectionsLastAgain(t *testing.T) {
	m := startMosquitto(t, "")
	lines := &logLines{}
	s := newSource(t, Config{URL: m.URL, ClientID: "c", Subscribe: []string{"t"}, Logger: lines.logger()}, newFakeLog(t))
	l := s.links[0]
	l.pace.stable = 50 * time.Millisecond
	l.outage = outage{failures: 9, brief: closedAgain}
	start(t, s)
	eventually(t, "it is told", func() bool { return lines.count("connections last again") == 1 })
	l.mu.Lock()
	defer l.mu.Unlock()
	if (l.outage != outage{}) || lines.count("msg=connected") != 0 {
		t.Fatalf("%+v\n%s", l.outage, lines)
	}
}

// The port that the system chose for us makes no news.
func TestTheSameFailureIsToldOnce(t *testing.T) {
	lines := &logLines{}
	l := newTestLink(t, newFakeLog(t), func(l *link) { l.logger = lines.logger() })
	for port := range 100 {
		l.failed(fmt.Errorf("read tcp 127.0.0.1:%d->127.0.0.1:1883: %w", 30000+port, syscall.ECONNRESET))
	}
	if lines.count("\n") != 1 || l.failures != 100 {
		t.Fatalf("%d failures, log says\n%s", l.failures, lines)
	}
	l.failed(syscall.EHOSTUNREACH)
	if lines.count("\n") != 2 {
		t.Fatalf("log says\n%s", lines)
	}
}

// TestHints lets something answer that is no broker, or not the one we expect.
func TestHints(t *testing.T) {
	for name, c := range map[string]struct {
		scheme, answer, hint string
	}{
		"NATS":                {"mqtt", "INFO {}\r\n", "a NATS server begins like this"},
		"HTTP":                {"mqtt", "HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP server begins like this"},
		"TLS without TLS":     {"mqtt", "\x15\x03\x01\x00\x02\x02\x46", "this port may want TLS, mqtts://"},
		"closed":              {"mqtt", "", "does this port speak MQTT, and without TLS?"},
		"no TLS":              {"mqtts", "\x20\x02\x00\x00\x00", "does this port speak TLS?"},
		"closed in handshake": {"mqtts", "", "does this port speak TLS?"},
	} {
		for _, version := range []string{Version5, Version311} {
			t.Run(name+" "+version, func(t *testing.T) {
				lines := &logLines{}
				s := newSource(t, Config{URL: c.scheme + "://" + answering(t, c.answer), ClientID: "c", Version: version,
					Subscribe: []string{"t"}, Logger: lines.logger()}, newFakeLog(t))
				start(t, s)
				eventually(t, "the hint", func() bool { return lines.count(c.hint) == 1 })
				if st := s.Stats(); st.Error == "" || st.Connected {
					t.Errorf("stats %+v", st)
				}
			})
		}
	}
	for err, hint := range map[error]string{
		os.ErrDeadlineExceeded: "no answer within 10s",
	} {
		if got := hintOf(fmt.Errorf("x: %w", err)); !strings.Contains(got, hint) {
			t.Errorf("%v: hint %q, want %q", err, got, hint)
		}
	}
}

// answering accepts connections, waits for the first bytes, answers and closes.
func answering(t *testing.T, answer string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 64<<10))
			_, _ = c.Write([]byte(answer))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return l.Addr().String()
}

func TestRefusedSubscription(t *testing.T) {
	for name, c := range map[string]struct {
		version string
		broker  little
		says    []string
	}{
		"3.1.1":               {Version311, little{}, []string{"code=0x80", `meaning="unspecified error"`}},
		"5":                   {Version5, little{v5: true}, []string{"code=0x80", `meaning="unspecified error"`}},
		"5, not authorized":   {Version5, little{v5: true, code: 0x87, reason: "not yours"}, []string{"code=0x87", `meaning="not authorized"`, `reason="not yours"`}},
		"5, no wildcards":     {Version5, little{v5: true, code: 0xa2}, []string{"code=0xa2", "wildcard subscriptions not supported"}},
		"5, a code to come":   {Version5, little{v5: true, code: 0xfe}, []string{"code=0xfe", "unknown reason"}},
		"5, quota and reason": {Version5, little{v5: true, code: 0x97, reason: "too many"}, []string{"quota exceeded", `reason="too many"`}},
	} {
		t.Run(name, func(t *testing.T) {
			log, lines := newFakeLog(t), &logLines{}
			s := newSource(t, Config{URL: "mqtt://" + c.broker.start(t), Version: c.version, ClientID: "c",
				Subscribe: []string{"forbidden", "allowed/#"}, Logger: lines.logger()}, log)
			start(t, s)
			eventually(t, "it is asked for again", func() bool { return gaugeValue(t, s.counters.refused) >= 2 })
			if st := s.Stats(); st.Subscribed || !st.Connected || !strings.HasPrefix(st.Error, "the broker refused forbidden: ") {
				t.Fatalf("stats %+v", st)
			}
			for _, says := range append(c.says, "refused a subscription", "filter=forbidden") {
				if lines.count(says) == 0 {
					t.Errorf("nothing of %s in\n%s", says, lines)
				}
			}
			if lines.count("filter=allowed") != 0 {
				t.Errorf("log says\n%s", lines)
			}
		})
	}
}

// TestGrantedLess: a broker that grants a lower QoS is told of, once a connection.
func TestGrantedLess(t *testing.T) {
	m := startMosquitto(t, "max_qos 0")
	for _, version := range []string{Version5, Version311} {
		t.Run(version, func(t *testing.T) {
			lines := &logLines{}
			s := newSource(t, Config{URL: m.URL, Version: version, ClientID: "less" + version, Subscribe: []string{"t", "u"}, QoS: 1,
				Logger: lines.logger()}, newFakeLog(t))
			start(t, s)
			subscribed(t, s)
			if lines.count("granted less than asked") != 2 || lines.count("filter=u asked=1 granted=0") != 1 || gaugeValue(t, s.counters.lowered) != 2 {
				t.Errorf("log says\n%s", lines)
			}
		})
	}
}

// little is a broker that answers CONNECT and SUBSCRIBE, sends a message behind
// a SUBACK, and refuses the filter "forbidden".
type little struct {
	v5      bool
	refusal []byte // its answer to a CONNECT of MQTT 5, if it does not speak it
	code    byte   // of what it refuses; 0: 0x80
	reason  string // with the code, MQTT 5
	strict  bool   // it refuses subscriptions with retain as published
	closes  bool   // and does so by closing the connection
}

// start returns the broker's address.
func (b little) start(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.serve(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return l.Addr().String()
}

func (b little) serve(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 0, 4096)
	for {
		first, size, remaining, _ := wire.FixedHeader(buf)
		if size == 0 || len(buf) < size+remaining {
			n, err := c.Read(buf[len(buf):cap(buf)])
			if err != nil {
				return
			}
			buf = buf[:len(buf)+n]
			continue
		}
		body := buf[size : size+remaining]
		switch first >> 4 {
		case 1: // CONNECT: protocol level behind the name
			if body[6] == 5 && !b.v5 {
				_, _ = c.Write(b.refusal)
				return
			}
			connack := []byte{wire.Connack << 4, 2, 0, 0}
			if b.v5 {
				connack = []byte{wire.Connack << 4, 3, 0, 0, 0}
			}
			_, _ = c.Write(connack)
		case 8: // SUBSCRIBE
			if b.strict && b.closes && body[len(body)-1]&8 != 0 {
				return
			}
			_, _ = c.Write(b.suback(body))
			_, _ = c.Write(publishFrame(b.v5, 0, 0, "t", nil, []byte("old")))
		}
		buf = buf[:copy(buf[:cap(buf)], buf[size+remaining:])]
	}
}

// suback answers the SUBSCRIBE of one filter.
func (b little) suback(subscribe []byte) []byte {
	code, reason := byte(0), ""
	if bytes.Contains(subscribe, []byte("forbidden")) || b.strict && subscribe[len(subscribe)-1]&8 != 0 {
		code, reason = cmp.Or(b.code, 0x80), b.reason
	}
	body := subscribe[:2:2]
	switch {
	case b.v5 && reason != "":
		body = append(body, byte(3+len(reason)), 0x1f, 0, byte(len(reason)))
		body = append(body, reason...)
	case b.v5:
		body = append(body, 0)
	}
	body = append(body, code)
	return append([]byte{wire.Suback << 4, byte(len(body))}, body...)
}

func TestAutoFallsBackTo311(t *testing.T) {
	for name, refusal := range map[string][]byte{
		"its own way": {wire.Connack << 4, 2, 0, 1},
		"like MQTT 5": {wire.Connack << 4, 3, 0, 0x84, 0},
	} {
		t.Run(name, func(t *testing.T) {
			log, lines := newFakeLog(t), &logLines{}
			s := newSource(t, Config{URL: "tcp://" + little{refusal: refusal}.start(t), ClientID: "c", Subscribe: []string{"t"}, Logger: lines.logger()}, log)
			start(t, s)
			subscribed(t, s)
			eventually(t, "a record", func() bool { return len(log.all()) == 1 || len(log.all()) == 2 })
			if lines.count("going on with 3.1.1") != 1 {
				t.Fatalf("log says\n%s", lines)
			}
		})
	}
	lines := &logLines{}
	s := newSource(t, Config{URL: "mqtt://" + little{refusal: []byte{wire.Connack << 4, 2, 0, 1}}.start(t), ClientID: "c",
		Version: Version5, Subscribe: []string{"t"}, Logger: lines.logger()}, newFakeLog(t))
	start(t, s)
	eventually(t, "refusal is told", func() bool { return lines.count("does not speak this version") == 1 })
}
