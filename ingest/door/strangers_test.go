package door

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSilentConnections: those that say nothing fill no more than their part, and who
// logs in then comes in.
func TestSilentConnections(t *testing.T) {
	d := open(t, newFakeLog(), Config{MaxConnections: 80})
	first := rawConn(t, d)
	for range 99 {
		rawConn(t, d)
	}
	connected(t, d, login(v311, "a"))
	if got := first.rest(); got != "" {
		t.Errorf("the oldest gets %s", got)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if got := len(d.conns); got > 80/strangersPart+1 {
		t.Errorf("%d connections are open", got)
	}
}

// from is a connection of some address.
type from struct {
	net.Conn
	addr string
}

func (f from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.addr), Port: 1} }

// TestStrangersOfOneAddress: one address, or network of IPv6, has an eighth of the places.
func TestStrangersOfOneAddress(t *testing.T) {
	d := &Door{ // 80 strangers, 10 of one address
		cfg: Config{MaxConnections: 320}, strangers: newStrangers(320), conns: map[net.Conn]*client{}, ending: t.Context(),
	}
	count := func(addr func(i int) string) (open int) {
		var all []*stranger
		for i := range 40 {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			all = append(all, d.enter(from{ours, addr(i)}))
		}
		for i, s := range all {
			if d.known(s) {
				open++
			} else if i >= 30 {
				t.Errorf("of %s not the oldest has gone", addr(i))
			}
			d.leave(s)
		}
		return open
	}
	for name, c := range map[string]struct {
		addr func(int) string
		want int
	}{
		"IPv4":         {func(int) string { return "192.0.2.1" }, 10},
		"IPv6":         {func(i int) string { return "2001:db8::" + string(rune('a'+i%6)) }, 10},
		"many":         {func(i int) string { return net.IPv4(192, 0, 2, byte(i)).String() }, 40},
		"this machine": {func(i int) string { return []string{"127.0.0.1", "::1"}[i%2] }, 40},
	} {
		if got := count(c.addr); got != c.want {
			t.Errorf("%s: %d of 40 are open, want %d", name, got, c.want)
		}
	}
}

// TestLongConnects: the CONNECTs that are read take a bounded number of bytes together.
func TestLongConnects(t *testing.T) {
	d := open(t, newFakeLog(), Config{MaxConnections: 1000})
	packet := append([]byte{0x10, 0xff, 0xff, 0x1f}, bytes.Repeat([]byte{'x'}, 400<<10)...)
	ended := make(chan struct{}, 100)
	for range cap(ended) {
		r := rawConn(t, d)
		go func() {
			_, _ = r.Write(packet)
			_, _ = r.Read(make([]byte, 1))
			ended <- struct{}{}
		}()
	}
	<-ended // one of them, before its time is over
	d.mu.Lock()
	defer d.mu.Unlock()
	if got := d.strangers.bytes; got > connectBudget || got < connectBudget/2 {
		t.Errorf("%d bytes are charged", got)
	}
}

// TestOpenFiles: where the system allows fewer files than connections, fewer are let in, and it is said.
func TestOpenFiles(t *testing.T) {
	for _, c := range []struct {
		files        uint64
		wanted, want int
	}{{1 << 20, 10_000, 10_000}, {10_512, 10_000, 10_000}, {10_511, 10_000, 9_999}, {1024, 10_000, 512}, {256, 10_000, 128}, {0, 5, 1}} {
		if got := connectionsFor(c.files, c.wanted); got != c.want {
			t.Errorf("%d files for %d connections: %d, want %d", c.files, c.wanted, got, c.want)
		}
	}
	if os.Getenv("MQTTETL_FEW_FILES") != "" {
		d := open(t, newFakeLog(), Config{MaxConnections: 1000})
		if d.cfg.MaxConnections != 500 {
			t.Errorf("max_connections is %d", d.cfg.MaxConnections)
		}
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	few := exec.Command("sh", "-c", `ulimit -n 1000; exec "$0" -test.run '^TestOpenFiles$'`, program)
	few.Env = append(os.Environ(), "MQTTETL_FEW_FILES=1")
	if out, err := few.CombinedOutput(); err != nil || strings.Contains(string(out), "no tests") {
		t.Errorf("with 1000 files: %v\n%s", err, out)
	}
}
