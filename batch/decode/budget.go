package decode

import (
	"errors"
	"fmt"
)

// What may be allocated for one payload, garbage included, is so many bytes for
// each of its own and some beside: what a few bytes claim, or become as a tree,
// can be hundreds of times as much.
const (
	MemoryFactor = 4
	MemoryBase   = 16 << 20
)

// budget is what is left of that. The costs are what Go's maps, slices and
// interfaces take while they grow; the test of bombs measures them.
//
// It is also by what is taken that the clock is looked at: a budget is spent in
// well below a second, unless something takes longer than it should.
type budget struct {
	left int
	look int         // where the clock is looked at next
	late func() bool // nil: never
}

// lookEvery is what may be taken between two looks at the clock.
const lookEvery = 256 << 10

func budgetOf(payload []byte) budget { return budget{left: MemoryFactor*len(payload) + MemoryBase} }

// budget is that of a payload.
func (o *Options) budget(payload []byte) budget { return budgetOf(payload).until(o.Late) }

func (b budget) until(late func() bool) budget {
	if late != nil {
		b.late, b.look = late, b.left-lookEvery
	}
	return b
}

// take fails when the budget is spent, or the time.
func (b *budget) take(cost int) error {
	if b.left -= cost; b.left < b.look {
		return b.lookAround()
	}
	return nil
}

func (b *budget) lookAround() error {
	if b.left < 0 {
		return errMemory
	}
	b.look = max(0, b.left-lookEvery)
	if b.late != nil && b.late() {
		return ErrSlow
	}
	return nil
}

// ErrSlow: Options.Late has said so.
var ErrSlow = errors.New("decoding it took too long")

// isSpent says that an error is of the payload, and not of a part of it.
func isSpent(err error) bool { return errors.Is(err, errMemory) || errors.Is(err, ErrSlow) }

var errMemory = fmt.Errorf("it would take more memory than %d times its size and %d MiB", MemoryFactor, MemoryBase>>20)

const (
	scalarCost      = 16
	textCost        = 32 // beside its bytes
	elementCost     = 48 // of an array that grows
	exactCost       = 16 // of one that is made in its size
	objectCost      = 96
	firstMemberCost = 288 // room for eight
	memberCost      = 192 // of those beyond, about, while the map grows
	metricCost      = 256 // of Sparkplug, as it is on the wire
	bornCost        = 448 // the same, as a birth remembers it
)

// smallMap is how many members an object has for the cost of the first.
const smallMap = 8

// member takes the cost of the n-th member of an object, from 0.
func (b *budget) member(n int) error {
	switch {
	case n == 0:
		return b.take(firstMemberCost)
	case n < smallMap:
		return nil
	case n == smallMap:
		return b.take(4 * firstMemberCost)
	}
	return b.take(memberCost)
}

// members takes the cost of n at once.
func (b *budget) members(n int) error {
	if n > smallMap {
		return b.take(5*firstMemberCost + (n-smallMap)*memberCost)
	}
	return b.take(min(n, 1) * firstMemberCost)
}

// growing is an array that grows without moving its elements again and again.
type growing struct {
	full [][]any
	last []any
	n    int
}

const grownAt = 1024

func (g *growing) add(v any) {
	if len(g.last) == cap(g.last) && len(g.last) >= grownAt {
		g.full = append(g.full, g.last)
		g.last = make([]any, 0, 2*cap(g.last))
	}
	g.last = append(g.last, v)
	g.n++
}

// array is never nil.
func (g *growing) array() []any {
	if g.full == nil {
		if g.last == nil {
			return []any{}
		}
		return g.last
	}
	a := make([]any, 0, g.n)
	for _, part := range append(g.full, g.last) {
		a = append(a, part...)
	}
	return a
}
