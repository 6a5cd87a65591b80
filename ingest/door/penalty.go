package door

import (
	"context"
	"errors"
	"fmt"
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

// penalties delay failed logins: each doubles what the next one of the same address waits
// before it is looked at. A password that is known waits for nothing, since others may share the address.
type penalties struct {
	mu sync.Mutex
	of map[netip.Prefix]*penalty
}

type penalty struct {
	fails   int
	waiting int
	last    time.Time     // a login failed
	turn    chan struct{} // full while one is looked at, once some have failed
}

// errGuesses: too many of the address wait.
var errGuesses = fmt.Errorf("%d logins of the address wait already", mostWaiting)

// errTurn: its time was over before it was looked at.
var errTurn = errors.New("the login waits for others, of its address after wrong ones, for too long")

// guess has a login looked at by check, an error of which is a wrong one. Where logins of
// the address have failed it is the only one, and waits before. So whoever guesses learns no more,
// and takes no more of the processor, with many connections than with one.
func (p *penalties) guess(ctx context.Context, who net.Addr, check func() error) error {
	v, ok := p.enter(prefixOf(who), time.Now())
	if !ok {
		return errGuesses
	}
	defer p.leave(v)
	if p.delay(v, time.Now()) > 0 {
		select {
		case v.turn <- struct{}{}:
			defer func() { <-v.turn }()
		case <-ctx.Done():
			return errTurn
		}
		if !sleep(ctx, p.delay(v, time.Now())) {
			return errTurn
		}
	}
	err := check()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return errTurn
	}
	if err != nil {
		sleep(ctx, p.failed(v, time.Now()))
	}
	return err
}

// enter takes a place among those of the address.
func (p *penalties) enter(at netip.Prefix, now time.Time) (v *penalty, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil || len(p.of) >= mostPenalised && p.of[at] == nil {
		p.of = map[netip.Prefix]*penalty{}
	}
	if v = p.of[at]; v == nil {
		v = &penalty{last: now, turn: make(chan struct{}, 1)}
		p.of[at] = v
	}
	if v.waiting >= mostWaiting {
		return nil, false
	}
	v.waiting++
	return v, true
}

func (p *penalties) leave(v *penalty) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v.waiting--
}

// delay is what the next login waits.
func (p *penalties) delay(v *penalty, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(v.last) > penaltyMemory {
		v.fails = 0
	}
	if v.fails == 0 {
		return 0
	}
	return min(firstPenalty<<min(v.fails, 10), mostPenalty)
}

// failed notes a failed login. The answer to the first one waits, as it could not before.
func (p *penalties) failed(v *penalty, now time.Time) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.fails == 0 {
		wait = firstPenalty
	}
	v.fails++
	v.last = now
	return wait
}

// sleep is false if ctx has ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
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
