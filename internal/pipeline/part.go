package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mqttetl/mqttetl"
)

// A Part is what a Pipeline runs.
type Part interface {
	// Run works until ctx ends, and then returns nil. Another error ends the pipeline.
	Run(ctx context.Context) error
	// Ready says in one line why the part cannot do its work at present, "" if it can.
	// It may be called at any time, from any goroutine.
	Ready() string
}

// Func is a Part that is always ready.
type Func func(context.Context) error

func (f Func) Run(ctx context.Context) error { return f(ctx) }
func (Func) Ready() string                   { return "" }

// What a part can do beside that.
type (
	// A part with a place in the status document.
	reporter interface{ report(*Status) }
	// A part that the start of the service waits for. It stays begun.
	starter interface{ begun() bool }
	// A part whose series in the metrics are deleted when it is removed.
	forgetter interface{ forget() }
)

// A Layer is parts that stop together. Those of one need those of the layers
// below, so it stops before them.
type Layer int

const (
	Log       Layer = iota
	Consumers       // read the log
	Sources         // append to it
	Reporters       // say what the others do
	layers
)

// actor is a part at its place.
type actor struct {
	Part
	layer Layer
	name  string
	shelf *shelf // of its metrics, nil without

	leave context.CancelFunc // nil before it is started
	ended chan struct{}      // closed when Run has returned
	err   error              // what that returned
}

// Add puts a part into a layer, after those that are there. It starts with
// them or, when they run, at once.
func (p *Pipeline) Add(layer Layer, name string, part Part) {
	p.add(&actor{Part: part, layer: layer, name: name})
}

func (p *Pipeline) add(a *actor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.shelf.use()
	p.parts = append(p.parts, a)
	p.start(a)
}

// Remove stops a part, waits until it has ended, and returns its error.
func (p *Pipeline) Remove(name string) error {
	return p.change(name, func(i int) {
		a := p.parts[i]
		a.shelf.leave()
		if f, ok := a.Part.(forgetter); ok {
			f.forget()
		}
		p.parts = slices.Delete(p.parts, i, i+1)
	})
}

// Replace stops a part, waits until it has ended, and starts another in its
// place. Where the first ended with an error, that is returned and nothing is started.
func (p *Pipeline) Replace(name string, by Part) error {
	return p.change(name, func(i int) {
		old := p.parts[i]
		p.parts[i] = &actor{Part: by, layer: old.layer, name: name, shelf: old.shelf}
		p.start(p.parts[i])
	})
}

// change stops a part and does what comes after. The others run on, and can be
// looked at, meanwhile.
func (p *Pipeline) change(name string, then func(i int)) error {
	p.changing.Lock()
	defer p.changing.Unlock()
	p.mu.Lock()
	i := slices.IndexFunc(p.parts, func(a *actor) bool { return a.name == name })
	if i < 0 {
		p.mu.Unlock()
		return fmt.Errorf("there is no part %s", name)
	}
	a := p.parts[i]
	p.mu.Unlock()
	if err := stopAll([]*actor{a}, 0); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	then(slices.Index(p.parts, a))
	return nil
}

// start starts a part if the pipeline runs.
func (p *Pipeline) start(a *actor) {
	if p.ctx == nil || p.ends.Load() {
		return
	}
	var ctx context.Context
	ctx, a.leave = context.WithCancel(p.ctx)
	a.ended = make(chan struct{})
	go func() {
		defer close(a.ended)
		if a.err = a.Run(ctx); a.err == nil {
			return
		}
		if a.layer > Log && errors.Is(a.err, mqttetl.ErrClosed) { // it follows from what has ended the log
			for _, l := range p.of(Log) {
				<-l.ended
			}
		}
		p.fail(a.err)
	}()
}

// stopAll ends parts, waits until they have ended, and returns the first error.
// So long as patience they may end by themselves.
func stopAll(list []*actor, patience time.Duration) (first error) {
	list = slices.DeleteFunc(slices.Clone(list), func(a *actor) bool { return a.leave == nil })
	defer time.AfterFunc(patience, func() {
		for _, a := range list {
			a.leave()
		}
	}).Stop()
	for _, a := range list {
		<-a.ended
		if first == nil {
			first = a.err
		}
	}
	for _, a := range list {
		a.leave()
	}
	return first
}

// of are the parts of a layer.
func (p *Pipeline) of(layer Layer) (list []*actor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.parts {
		if a.layer == layer {
			list = append(list, a)
		}
	}
	return list
}

// fromTheTop calls do with all parts in the order in which they stop.
func (p *Pipeline) fromTheTop(do func(*actor)) {
	for layer := layers - 1; layer >= 0; layer-- {
		for _, a := range p.of(layer) {
			do(a)
		}
	}
}
