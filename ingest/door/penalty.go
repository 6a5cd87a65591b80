package door

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of a penalty.
const (
	firstPenalty  = 200 * time.Millisecond
	mostPenalty   = 10 * time.Second
	penaltyMemory = time.Minute // how long a failed login counts
	mostPenalised = 10_000      // addresses
	mostWaiting   = 8           // connections of one address that wait for their answer
)

// penalties delay the answers to failed logins: each doubles what the next one of
// the same address waits. Right passwords wait for nothing, since others may share the address.
type penalties struct {
	mu sync.Mutex
	of map[netip.Prefix]*penalty
}

type penalty struct {
	fails   int
	waiting int
	last    time.Time
}

// failed notes a failed login and returns how long its answer waits. ok is false
// if too many of the address wait already: then the connection is to be closed.
// done must be called after the wait.
func (p *penalties) failed(who net.Addr, now time.Time) (wait time.Duration, ok bool, done func()) {
	at := prefixOf(who)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil || len(p.of) >= mostPenalised && p.of[at] == nil {
		p.of = map[netip.Prefix]*penalty{}
	}
	v := p.of[at]
	if v == nil {
		v = new(penalty)
		p.of[at] = v
	}
	if now.Sub(v.last) > penaltyMemory && v.waiting == 0 {
		v.fails = 0
	}
	v.last = now
	if v.waiting >= mostWaiting {
		return 0, false, func() {}
	}
	wait = min(firstPenalty<<min(v.fails, 10), mostPenalty)
	v.fails++
	v.waiting++
	return wait, true, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		v.waiting--
	}
}

// prefixOf is what one stranger has: an address of IPv4, a network of IPv6.
func prefixOf(who net.Addr) netip.Prefix {
	tcp, ok := who.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	a := tcp.AddrPort().Addr().Unmap()
	bits := 64
	if a.Is4() {
		bits = 32
	}
	prefix, _ := a.Prefix(bits) // in range
	return prefix
}
