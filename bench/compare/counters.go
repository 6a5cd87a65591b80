package compare

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// pending is what a broker is to be asked about a round that is over: it tells
// its counters only every now and then, and meanwhile others can be measured.
type pending struct {
	c     *Case
	round int // Round.Round
	ours  map[string]int64
	since time.Time
}

// completeRounds completes the rounds before on brokers that tell their counters now
// and then, before this one sends them anything. A broker that does not tell
// them any more is not asked again: what is measured stays without.
func (t *trial) completeRounds() error {
	for _, h := range t.hosts() {
		err := h.completeRound(t.ctx)
		if err == nil {
			continue
		}
		if t.ctx.Err() != nil {
			return err
		}
		t.note("%v: the counters of %s are not compared from here on (mosquitto: sys_interval 1)", err, h.Kind)
		h.sys.c.Close()
		h.sys, h.pending = nil, nil
	}
	return nil
}

// readCounters reads what the servers have counted before the round.
func (t *trial) readCounters(r *Round) error {
	r.Counters, r.Agrees = []Counter{}, true
	t.before = map[string]map[string]uint64{}
	for _, h := range t.hosts() {
		values, err := h.count(t.ctx)
		if err != nil {
			return err
		}
		t.before[h.ID] = values
	}
	return nil
}

// compareCounters compares what the servers have counted in the round with r,
// those that tell it at once.
func (t *trial) compareCounters(r *Round) error {
	for _, h := range t.hosts() {
		ours := t.ours(h, r)
		if len(ours) == 0 || t.before[h.ID] == nil {
			continue
		}
		if h.sys != nil {
			h.pending = &pending{t.c, r.Round, ours, time.Now()}
			continue
		}
		after, err := h.count(t.ctx)
		if err != nil {
			return err
		}
		r.add(h.ID, t.before[h.ID], after, ours, t.c.Protocol, t.c.QoS)
	}
	return nil
}

// ours is what a server must have counted by our own count.
func (t *trial) ours(h *host, r *Round) map[string]int64 {
	sent, delivered := int64(r.Sent), int64(r.Delivered+r.Foreign)
	switch {
	case h.protocol == MQTT && t.c.Protocol == Bridge:
		return map[string]int64{sysReceived: sent, sysSent: sent, sysDropped: 0}
	case h.protocol == MQTT:
		return map[string]int64{sysReceived: sent, sysSent: delivered, sysDropped: int64(r.Lost)}
	case h.protocol == NATSCore && t.c.Protocol == NATSCore:
		return map[string]int64{natsIn: sent, natsOut: delivered, natsSlow: 0}
	case h.protocol == NATSCore:
		return map[string]int64{natsStored: sent, natsSlow: 0}
	}
	return nil
}

// add enters the counters of a server. Mosquitto 2.0 counts no PUBLISH of QoS 2
// as received: where it does not, that counter is left out.
func (r *Round) add(server string, before, after map[string]uint64, ours map[string]int64, by Protocol, qos int) {
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		if name == sysReceived && after[name] == before[name] && qos == 2 {
			continue
		}
		c := Counter{Server: server, Name: name, Before: before[name], After: after[name], Ours: ours[name]}
		c.Change = int64(c.After) - int64(c.Before)
		c.Agrees = c.Change == c.Ours
		switch {
		case c.Agrees:
		case by == Bridge && name == sysSent && c.Change == c.Ours+1:
			// Mosquitto keeps $SYS messages for a minute, retained.
			c.Agrees, c.Note = true, "and one message of $SYS, which the pipeline hears too"
		default:
			c.Note = fmt.Sprintf("the server counts %+d; is it used by others too?", c.Change-c.Ours)
			r.Agrees = false
		}
		r.Counters = append(r.Counters, c)
	}
}

// count is what the server has counted by now, a broker that tells it by $SYS
// when its last round was completed; nil where it does not tell.
func (h *host) count(ctx context.Context) (map[string]uint64, error) {
	switch {
	case h.sys != nil:
		return h.counted, nil
	case h.child != nil && h.Kind == kindMochi:
		var counted map[string]uint64
		if err := h.child.Tell("count"); err != nil {
			return nil, err
		}
		return counted, h.child.Hear(&counted)
	case h.monitor != "":
		return h.monitor.read(ctx)
	}
	return nil, nil
}

// completeRound completes the counters of the last round on this broker.
func (h *host) completeRound(ctx context.Context) error {
	if h.sys == nil || h.pending == nil {
		return nil
	}
	p := h.pending
	after, err := h.sys.read(ctx, p.since)
	if err != nil {
		return err
	}
	h.pending = nil
	if p.c != nil {
		for i := range p.c.Rounds {
			if p.c.Rounds[i].Round == p.round {
				p.c.Rounds[i].add(h.ID, h.counted, after, p.ours, p.c.Protocol, p.c.QoS)
			}
		}
	}
	h.counted = after
	return nil
}
