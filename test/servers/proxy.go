package servers

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// Weather is what a Proxy does to the bytes that pass it.
type Weather struct {
	// HoldUp and HoldDown let nothing through to the server, to the client: the
	// network is gone without a word. What has been read meanwhile goes on its
	// way when they end.
	HoldUp, HoldDown bool
	// Refuse resets connections as they are made.
	Refuse bool
	// Dribble sends every byte by itself.
	Dribble bool
	// Delay holds each piece back for that long.
	Delay time.Duration
}

// Direction of bytes through a Proxy.
type Direction int

// Up is from the client to the server.
const (
	Up Direction = iota
	Down
)

// Proxy stands between a client and a server and is the network between them.
// It never changes, drops or repeats a byte of a connection: it delays them, or
// ends the connection.
type Proxy struct {
	Addr string // host:port for the client

	listener net.Listener
	target   string
	closing  context.CancelFunc
	closed   context.Context
	running  sync.WaitGroup

	mu      sync.Mutex
	weather Weather
	changed chan struct{} // closed and made anew when weather changes
	wires   map[*wire]bool
	made    int
	tap     func(connection int, d Direction, piece []byte)
}

// wire is one connection through the proxy.
type wire struct {
	id             int
	client, server net.Conn
	dead           chan struct{} // closed: no byte passes any more
	once           sync.Once
}

// StartProxy starts a proxy for the server at target, host:port.
func StartProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{Addr: l.Addr().String(), listener: l, target: target, changed: make(chan struct{}), wires: map[*wire]bool{}}
	p.closed, p.closing = context.WithCancel(context.Background())
	p.running.Go(p.serve)
	return p, nil
}

// SetTap has tap see every piece before it passes, nil: nobody. It is called for
// each direction of a connection in order.
func (p *Proxy) SetTap(tap func(connection int, d Direction, piece []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tap = tap
}

func (p *Proxy) tapped() func(connection int, d Direction, piece []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tap
}

// Set changes the weather, for present connections and for those to come.
func (p *Proxy) Set(w Weather) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.weather = w
	close(p.changed)
	p.changed = make(chan struct{})
}

// Connections is the number of connections there are now.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.wires)
}

// Cut resets all present connections, at both ends.
func (p *Proxy) Cut() { p.each(func(w *wire) { w.reset(w.client); w.reset(w.server) }) }

// End closes all present connections in order: both ends read what was
// underway and then the end.
func (p *Proxy) End() { p.each(func(w *wire) { closeWrite(w.client); closeWrite(w.server) }) }

// HalfOpen resets the present connections at the server's end only: the client
// is told nothing, and nothing it sends arrives.
func (p *Proxy) HalfOpen() { p.each(func(w *wire) { w.kill(); w.reset(w.server) }) }

// Close ends the proxy and all its connections.
func (p *Proxy) Close() {
	p.closing()
	p.listener.Close()
	p.Cut()
	p.running.Wait()
}

func (p *Proxy) each(f func(*wire)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.wires {
		f(w)
	}
}

func (p *Proxy) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.connect(c) })
	}
}

// connect makes the connection to the server and passes bytes until both
// directions have ended.
func (p *Proxy) connect(c net.Conn) {
	w := &wire{client: c, dead: make(chan struct{})}
	if now, _ := p.now(); now.Refuse {
		w.reset(c)
		return
	}
	var d net.Dialer
	server, err := d.DialContext(p.closed, "tcp", p.target)
	if err != nil {
		w.reset(c)
		return
	}
	w.server = server
	p.mu.Lock()
	p.made++
	w.id = p.made
	p.wires[w] = true
	p.mu.Unlock()
	if p.closed.Err() != nil { // Close may not have seen it
		p.Cut()
	}
	var both sync.WaitGroup
	both.Go(func() { p.pass(w, Up, w.server, w.client) })
	both.Go(func() { p.pass(w, Down, w.client, w.server) })
	both.Wait()
	w.client.Close()
	w.server.Close()
	p.mu.Lock()
	delete(p.wires, w)
	p.mu.Unlock()
}

func (p *Proxy) now() (Weather, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.weather, p.changed
}

// pass copies one direction until its end.
func (p *Proxy) pass(w *wire, d Direction, to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && p.deliver(w, d, to, buf[:n]) != nil {
			closeRead(from)
			w.reset(from)
			return
		}
		if err != nil {
			if alive(w) {
				closeWrite(to)
			}
			return
		}
	}
}

// deliver writes a piece as the weather lets it.
func (p *Proxy) deliver(w *wire, d Direction, to net.Conn, piece []byte) error {
	for len(piece) > 0 {
		now, err := p.wait(w, d)
		if err != nil {
			return err
		}
		n := len(piece)
		if now.Dribble {
			n = 1
		}
		if tap := p.tapped(); tap != nil {
			tap(w.id, d, piece[:n])
		}
		if _, err := to.Write(piece[:n]); err != nil {
			return err
		}
		piece = piece[n:]
	}
	return nil
}

// wait lets the piece wait for the weather.
func (p *Proxy) wait(w *wire, d Direction) (Weather, error) {
	delayed := false
	for {
		now, changed := p.now()
		held := d == Up && now.HoldUp || d == Down && now.HoldDown
		if !held && (delayed || now.Delay == 0) && alive(w) {
			return now, p.closed.Err()
		}
		var later <-chan time.Time
		if !held && alive(w) {
			later = time.After(now.Delay)
		}
		select {
		case <-later:
			delayed = true
		case <-changed:
		case <-p.closed.Done():
			return now, p.closed.Err()
		}
	}
}

func alive(w *wire) bool {
	select {
	case <-w.dead:
		return false
	default:
		return true
	}
}

// kill lets no byte pass from now on.
func (w *wire) kill() { w.once.Do(func() { close(w.dead) }) }

// reset ends one side with a TCP reset.
func (w *wire) reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	c.Close()
}

func closeWrite(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.CloseWrite()
	}
}

func closeRead(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		t.CloseRead()
	}
}
