package ingest

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// picky is a broker that answers a CONNECT of MQTT 5 in its own way, and serves
// 3.1.1 as little does.
type picky struct {
	mu   sync.Mutex
	seen []byte // protocol levels of the CONNECTs, in order
	with func(c net.Conn, level byte, n int) (serve bool)
}

// start returns the broker's address.
func (p *picky) start(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String()
}

func (p *picky) serve(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		return
	}
	level := buf[8]
	p.mu.Lock()
	p.seen = append(p.seen, level)
	number := len(p.seen)
	p.mu.Unlock()
	if p.with(c, level, number) {
		little{v5: level == 5}.serve(&replayed{Conn: c, first: buf[:n]})
	}
}

func (p *picky) levels() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// replayed gives what was read already once more.
type replayed struct {
	net.Conn
	first []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.first)
	r.first = r.first[n:]
	return n, nil
}

// closes, resets and ignores are what brokers that only know 3.1.1 do with a
// CONNECT of MQTT 5.
func closes(net.Conn) {}
func resets(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
}
func ignores(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
func answersIn311(c net.Conn) {
	_, _ = c.Write([]byte{wire.Connack << 4, 2, 0, 0})
	_, _ = io.Copy(io.Discard, c)
}

// TestAutoFindsAnUnwillingBroker: 3.1.1 is tried after the first CONNECT of
// MQTT 5 without an answer.
func TestAutoFindsAnUnwillingBroker(t *testing.T) {
	for name, answer := range map[string]func(net.Conn){"closes": closes, "resets": resets, "ignores": ignores, "in 3.1.1": answersIn311} {
		t.Run(name, func(t *testing.T) {
			lines, log := &logLines{}, newFakeLog(t)
			b := &picky{with: func(c net.Conn, level byte, _ int) bool {
				if level == 5 {
					answer(c)
				}
				return level == 4
			}}
			s := newSource(t, Config{URL: "mqtt://" + b.start(t), ClientID: "c", Subscribe: []string{"t"}, Logger: lines.logger()}, log)
			if name == "ignores" {
				s.links[0].pace.answer = time.Second
			}
			start(t, s)
			subscribed(t, s)
			eventually(t, "a record", func() bool { return len(log.all()) > 0 })
			if got := b.levels(); !slices.Equal(got, []byte{5, 4}) {
				t.Fatalf("CONNECTs of level %v, want 5, 4", got)
			}
			if lines.count("3.1.1") == 0 || lines.count("level=ERROR") != 0 || lines.count("\n") > 4 {
				t.Errorf("log says\n%s", lines)
			}
		})
	}
}

// TestAutoStaysWith311: after the second time MQTT 5 is not asked again.
func TestAutoStaysWith311(t *testing.T) {
	b := &picky{}
	b.with = func(_ net.Conn, level byte, n int) bool { return level == 4 && n > 5 }
	s := newSource(t, Config{URL: "mqtt://" + b.start(t), ClientID: "c", Subscribe: []string{"t"}}, newFakeLog(t))
	start(t, s)
	subscribed(t, s)
	for i, want := range [][]byte{{5, 4, 5, 4, 5, 4}, {5, 4}, {4}, {4}} {
		before := b.levels()
		if i > 0 {
			n := len(before)
			_ = s.links[0].current().Conn.Close()
			eventually(t, "the next connection", func() bool { return len(b.levels()) >= n+len(want) && s.Stats().Subscribed })
			before = b.levels()[n:]
		}
		if !slices.Equal(before, want) {
			t.Fatalf("round %d: CONNECTs of level %v, want %v", i, before, want)
		}
	}
}

// TestAutoKeepsMQTT5: a broker that is known to speak MQTT 5 and for a while
// says nothing is not taken for one of 3.1.1, also by the next process.
func TestAutoKeepsMQTT5(t *testing.T) {
	lines, log := &logLines{}, newFakeLog(t)
	b := &picky{}
	b.with = func(_ net.Conn, _ byte, n int) bool { return n == 1 || n > 5 }
	cfg := Config{URL: "mqtt://" + b.start(t), ClientID: "c", Subscribe: []string{"t"}, Logger: lines.logger()}
	s := newSource(t, cfg, log)
	stop := start(t, s)
	subscribed(t, s)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s = newSource(t, cfg, log)
	start(t, s)
	subscribed(t, s)
	if got := b.levels(); !slices.Equal(got, []byte{5, 5, 5, 5, 5, 5}) {
		t.Fatalf("CONNECTs of level %v, want 5 only", got)
	}
	if lines.count("trying 3.1.1") != 0 || lines.count("it has spoken MQTT 5 before") != 1 {
		t.Errorf("log says\n%s", lines)
	}
}

// TestOneHiccupIsNotForEver: a broker of MQTT 5 that says nothing to the very
// first CONNECT is asked for MQTT 5 at the next connection.
func TestOneHiccupIsNotForEver(t *testing.T) {
	b := &picky{with: func(_ net.Conn, _ byte, n int) bool { return n > 1 }}
	s := newSource(t, Config{URL: "mqtt://" + b.start(t), ClientID: "c", Subscribe: []string{"t"}}, newFakeLog(t))
	start(t, s)
	subscribed(t, s)
	for range 3 {
		n := len(b.levels())
		_ = s.links[0].current().Conn.Close()
		eventually(t, "the next connection", func() bool { return len(b.levels()) > n && s.Stats().Subscribed })
	}
	if got := b.levels(); !slices.Equal(got, []byte{5, 4, 5, 5, 5}) {
		t.Fatalf("CONNECTs of level %v", got)
	}
}

// TestNoVersionIsAnswered: the hint says what was tried, once, and the attempts
// become slower.
func TestNoVersionIsAnswered(t *testing.T) {
	for name, answer := range map[string]func(net.Conn){"closes": closes, "ignores": ignores} {
		t.Run(name, func(t *testing.T) {
			lines := &logLines{}
			b := &picky{with: func(c net.Conn, _ byte, _ int) bool { answer(c); return false }}
			s := newSource(t, Config{URL: "mqtt://" + b.start(t), ClientID: "c", Subscribe: []string{"t"}, Logger: lines.logger()}, newFakeLog(t))
			l := s.links[0]
			if name == "ignores" {
				l.pace.answer, l.pace.answerMost = 10*time.Millisecond, 20*time.Millisecond
			}
			start(t, s)
			eventually(t, "several attempts", func() bool { return gaugeValue(t, l.counters.failed) >= 8 })
			if got := fmt.Sprint(b.levels()[:6]); got != "[5 4 5 4 5 4]" {
				t.Errorf("CONNECTs of level %s", got)
			}
			if lines.count("\n") != 2 || lines.count("MQTT 5 and 3.1.1 get no answer; ") != 1 {
				t.Errorf("log says\n%s", lines)
			}
			if d := l.delay(); d < 2*l.pace.first {
				t.Errorf("the next attempt follows in %s", d)
			}
		})
	}
}

// TestOnlyTheVersionAsked: a broker that does not know the one version that is
// configured is told of with the setting.
func TestOnlyTheVersionAsked(t *testing.T) {
	for name, c := range map[string]struct {
		version string
		answer  func(net.Conn)
		says    string
	}{
		"5 closed":       {Version5, closes, "only MQTT 5 was tried, as version says"},
		"3.1.1 closed":   {Version311, closes, "only MQTT 3.1.1 was tried, as version says"},
		"5 in 3.1.1":     {Version5, answersIn311, "set version to auto or to the one it speaks"},
		"3.1.1 ignored":  {Version311, ignores, "does not answer CONNECT within 10ms"},
		"5 ignored":      {Version5, ignores, "does not answer CONNECT within 10ms"},
		"5 ignored hint": {Version5, ignores, "is the broker overloaded"},
	} {
		t.Run(name, func(t *testing.T) {
			lines := &logLines{}
			b := &picky{with: func(conn net.Conn, _ byte, _ int) bool { c.answer(conn); return false }}
			s := newSource(t, Config{URL: "mqtt://" + b.start(t), ClientID: "c", Version: c.version, Subscribe: []string{"t"}, Logger: lines.logger()}, newFakeLog(t))
			if strings.Contains(name, "ignored") {
				s.links[0].pace.answer, s.links[0].pace.answerMost = 10*time.Millisecond, 10*time.Millisecond
			}
			start(t, s)
			eventually(t, "several attempts", func() bool { return gaugeValue(t, s.links[0].counters.failed) >= 4 })
			if lines.count(c.says) != 1 || lines.count("\n") != 1 {
				t.Errorf("log says\n%s", lines)
			}
			for _, level := range b.levels() {
				if level != map[string]byte{Version5: 5, Version311: 4}[c.version] {
					t.Errorf("a CONNECT of level %d", level)
				}
			}
		})
	}
}

// TestLateConnack: a broker that takes ever so long to answer gets more time.
func TestLateConnack(t *testing.T) {
	for _, version := range []string{Version5, Version311, VersionAuto} {
		t.Run(version, func(t *testing.T) {
			b := &picky{with: func(c net.Conn, level byte, _ int) bool {
				time.Sleep(150 * time.Millisecond) // the fault itself
				return true
			}}
			s := newSource(t, Config{URL: "mqtt://" + b.start(t), ClientID: "c", Version: version, Subscribe: []string{"t"}}, newFakeLog(t))
			s.links[0].pace.answer, s.links[0].pace.answerMost = 50*time.Millisecond, patience
			start(t, s)
			subscribed(t, s)
		})
	}
}
