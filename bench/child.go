package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// patience bounds every wait for something that another process does.
const patience = 5 * time.Minute

// A child is a role that runs as a process of its own.
type child struct{ *instrument.Child }

// startRole starts a role. It is killed when ctx ends.
func startRole(ctx context.Context, name string, parameters any) (*child, error) {
	p, err := json.Marshal(parameters)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c, err := instrument.StartChild(ctx, name, patience, self, "role", name, string(p))
	return &child{c}, err
}

// startReady starts a role and waits until it has subscribed, or is ready to begin.
func startReady(ctx context.Context, name string, parameters any) (*child, error) {
	c, err := startRole(ctx, name, parameters)
	if err != nil {
		return nil, err
	}
	if err := c.Hear(&subscribed{}); err != nil {
		return nil, err
	}
	return c, nil
}

// deliver tells a role that delivers to begin and waits until it is done.
func (c *child) deliver() (d delivered, err error) {
	if err := c.Tell("go"); err != nil {
		return d, err
	}
	return d, c.Hear(&d)
}

// observe measures processor time and memory of the role while do runs.
func (c *child) observe(n int, do func() error) (m measurement, err error) {
	m.Messages = n
	before, err := instrument.ProcessTime(c.PID())
	if err != nil {
		return m, err
	}
	memory := instrument.WatchMemory(c.PID())
	err = do()
	m.Peak = float64(memory.End())
	if err != nil {
		return m, err
	}
	after, err := instrument.ProcessTime(c.PID())
	m.CPU = (after - before).Seconds() / float64(n)
	return m, err
}
