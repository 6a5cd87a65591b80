package forward

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/nats-io/nats.go/jetstream"
)

// proxy stands between forwarder and server and harms the connections.
type proxy struct {
	l      net.Listener
	target string

	mu    sync.Mutex
	links map[*wire]bool
	wg    sync.WaitGroup
}

// wire is one connection through the proxy.
type wire struct {
	client, server net.Conn
	stall          chan struct{} // closed: client to server stands still
	release        chan struct{} // closed: it goes on
	ended          chan struct{} // closed when the server has closed its side, having read all
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, target: strings.TrimPrefix(target, "nats://"), links: map[*wire]bool{}}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		l.Close()
		p.each(func(w *wire) { w.cut(); w.resume() })
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.l.Addr().String() }

func (p *proxy) serve() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.target)
		if err != nil {
			c.Close()
			continue
		}
		w := &wire{client: c, server: s, stall: make(chan struct{}), release: make(chan struct{}), ended: make(chan struct{})}
		p.mu.Lock()
		p.links[w] = true
		p.mu.Unlock()
		p.wg.Go(func() { w.upstream() })
		p.wg.Go(func() { w.downstream() })
	}
}

func (p *proxy) each(f func(*wire)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.links {
		f(w)
	}
}

// upstream copies to the server, in pieces of odd sizes. When it is stalled it
// keeps what it has read, and delivers it when it is released, even if the
// client has long gone: late bytes of an old connection.
func (w *wire) upstream() {
	defer w.server.Close()
	buf := make([]byte, 3001)
	for {
		n, err := w.client.Read(buf)
		select {
		case <-w.stall:
			<-w.release
		default:
		}
		if _, e := w.server.Write(buf[:n]); e != nil || err != nil {
			return
		}
	}
}

func (w *wire) downstream() {
	defer close(w.ended)
	defer w.client.Close()
	buf := make([]byte, 4096)
	for {
		n, err := w.server.Read(buf)
		if err != nil {
			return
		}
		if _, err := w.client.Write(buf[:n]); err != nil {
			continue // the client has gone, what it sent may still be on its way
		}
	}
}

// cut resets both sides at once.
func (w *wire) cut() {
	for _, c := range []net.Conn{w.client, w.server} {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

func (w *wire) halt() {
	select {
	case <-w.stall:
	default:
		close(w.stall)
	}
}

func (w *wire) resume() {
	select {
	case <-w.release:
	default:
		close(w.release)
	}
}

// seeded returns a source of randomness whose seed is printed, and can be given.
func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if s := os.Getenv("MQTTETL_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("MQTTETL_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Connections are cut in the middle of windows, at random records. The
// duplicate window is too short to help.
func TestRandomCuts(t *testing.T) {
	rnd := seeded(t)
	n := startProcess(t)
	_, js := admin(t, n.URL())
	createStream(t, js, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond })
	p := startProxy(t, n.URL())
	l := newMemLog()
	forward(t, p.url(), l)
	const cuts = 30
	for range cuts {
		at := l.last() + mqttetl.Seq(rnd.IntN(1000))
		l.grow(1000)
		l.await(t, at)
		p.each(func(w *wire) {
			switch rnd.IntN(3) {
			case 0:
				w.cut()
			case 1: // the client sees the end, the server reads on
				w.halt()
				w.client.Close()
				w.resume()
			case 2: // the server sees the end first
				w.server.Close()
			}
			delete(p.links, w)
		})
	}
	l.await(t, cuts*1000)
	wantExactly(t, n.URL(), span{1, cuts * 1000})
}

// A connection goes dead without a word, another takes over, and much later,
// when the duplicate window is over, what was under way on the first arrives.
func TestLateBytesOfAnOldConnection(t *testing.T) {
	n := startProcess(t)
	_, js := admin(t, n.URL())
	createStream(t, js, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond })
	p := startProxy(t, n.URL())
	l := newMemLog()
	l.grow(1)
	r := forward(t, p.url(), l)
	l.await(t, 1)
	var old []*wire
	p.each(func(w *wire) { w.halt(); old = append(old, w) })
	l.grow(2000)
	r.log.await(t, "no acknowledgement")
	l.await(t, 2001)
	<-time.After(300 * time.Millisecond) // the server forgets the ids
	for _, w := range old {
		w.resume()
		<-w.ended
	}
	l.grow(2000)
	l.await(t, 4001)
	wantExactly(t, n.URL(), span{1, 4001})
	if d := l.deadLetters(); len(d) > 0 {
		t.Errorf("dead letters: %v", d)
	}
}

// The server is away for longer than it remembers ids, with messages stored
// whose acknowledgement was lost.
func TestOutageLongerThanDuplicateWindow(t *testing.T) {
	n := startProcess(t)
	_, js := admin(t, n.URL())
	createStream(t, js, func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond })
	p := startProxy(t, n.URL())
	l := newMemLog()
	r := forward(t, p.url(), l)
	for i := range 5 {
		l.grow(3000)
		l.await(t, mqttetl.Seq(3000*i+1))
		p.each(func(w *wire) { w.cut(); delete(p.links, w) })
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		<-time.After(150 * time.Millisecond) // the outage itself
		if err := n.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	l.await(t, 15000)
	wantExactly(t, n.URL(), span{1, 15000})
	if c := r.log.count("lost messages that were confirmed"); c > 0 {
		t.Errorf("the server lost confirmed messages %d times in a kill", c)
	}
}

// Everything is answered for, whatever error JetStream gives.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		err  error
		want verdict
	}{
		{&apiError{10071, "wrong last sequence: 7"}, chain},
		{&apiError{10070, "wrong last msg ID: x"}, chain},
		{&apiError{10164, "wrong last sequence"}, chain},
		{&apiError{10054, "message size exceeds maximum allowed"}, bury},
		{&apiError{10097, "header size exceeds maximum allowed of 64k"}, bury},
		{&apiError{10077, "maximum bytes exceeded"}, retry},
		{&apiError{10077, "maximum messages exceeded"}, retry},
		{&apiError{10077, "maximum messages per subject exceeded"}, bury},
		{&apiError{10077, "message too large"}, bury},
		{&apiError{10077, "write /store: no space left on device"}, retry},
		{&apiError{10008, "JetStream system temporarily unavailable"}, retry},
		{&apiError{10023, "insufficient resources"}, retry},
		{&apiError{10109, "invalid operation on sealed stream"}, retry},
		{&apiError{10167, "too many requests"}, retry},
		{&apiError{10158, "duplicate message id is in process"}, retry},
		{&apiError{19999, "new in some later server"}, retry},
		{errNoStream, retry},
		{errAckTimeout, retry},
		{errDuplicate, retry},
	} {
		for _, err := range []error{c.err, fmt.Errorf("publish: %w", c.err)} {
			if got := judge(err); got != c.want {
				t.Errorf("judge(%v) = %d, want %d", err, got, c.want)
			}
		}
	}
}

// The line takes nothing any more and the buffers on the way are full.
func TestStopWhileTheLineIsDead(t *testing.T) {
	n := startNATS(t)
	p := startProxy(t, n.URL())
	l := newMemLog()
	l.grow(1)
	r := forward(t, p.url(), l)
	l.await(t, 1)
	p.each((*wire).halt)
	big := record(2)
	big.Payload = make([]byte, 900<<10)
	for range 20 {
		l.add(big)
	}
	for r.Stats().InFlight == 0 {
		waitTick(t)
	}
	r.stop(t)
}
