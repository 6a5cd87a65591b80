package compare

import (
	"strings"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// summarize does the sums of every case and puts them into the report.
func (w *world) summarize(cases []*Case) {
	for _, c := range cases {
		c.Incomplete = len(c.Rounds) < w.cfg.Rounds
		c.sum(w.endToEnd[c], w.confirms[c])
	}
	for _, c := range cases {
		c.compare(cases)
		w.report.Cases = append(w.report.Cases, *c)
	}
}

// sum is c over its rounds; the histograms are those of all rounds together.
func (c *Case) sum(endToEnd, confirm instrument.Latencies) {
	s := &c.Summary
	of := func(f func(*Round) float64) Spread {
		var v []float64
		for i := range c.Rounds {
			v = append(v, f(&c.Rounds[i]))
		}
		return instrument.SpreadOf(v)
	}
	s.PublishRate = of(func(r *Round) float64 { return r.PublishRate })
	s.DeliveredRate = of(func(r *Round) float64 { return r.DeliveredRate })
	s.WireBytes = of(func(r *Round) float64 { return r.WireBytes })
	s.Allocs = of(func(r *Round) float64 { return r.Allocs })
	s.EndToEndP50 = of(func(r *Round) float64 { return float64(r.EndToEnd.P50) })
	s.EndToEndP99 = of(func(r *Round) float64 { return float64(r.EndToEnd.P99) })
	s.EndToEndP999 = of(func(r *Round) float64 { return float64(r.EndToEnd.P999) })
	s.ConfirmP50 = of(func(r *Round) float64 { return float64(r.Confirm.P50) })
	s.ConfirmP99 = of(func(r *Round) float64 { return float64(r.Confirm.P99) })
	s.EndToEnd, s.Confirm = curveOf(endToEnd, c.Mode == Latency), curveOf(confirm, c.Mode == Latency)
	var client, server []float64
	for i := range c.Rounds {
		r := &c.Rounds[i]
		s.Lost += r.Lost
		s.Duplicated += r.Duplicated
		s.Reordered += r.Reordered
		c.Disagrees = c.Disagrees || !r.Agrees
		if r.ClientCPU != nil {
			client = append(client, *r.ClientCPU)
		}
		if total, all := r.servers(c); all {
			server = append(server, total)
		}
	}
	c.Loss = s.Lost > 0
	s.ClientCPU, s.ServerCPU = instrument.SpreadOf(client), instrument.SpreadOf(server)
}

// servers is the CPU of all servers of the case, if all are known.
func (r *Round) servers(c *Case) (total float64, all bool) {
	for _, v := range r.ServerCPU {
		total += v
	}
	return total, len(r.ServerCPU) == len(c.Servers)
}

// compare finds the base of c and its ceiling.
func (c *Case) compare(cases []*Case) {
	for _, b := range cases {
		if b.Summary.PublishRate.N == 0 {
			continue
		}
		if b.ceilingOf(c) {
			c.Summary.Ceiling = b.Summary.PublishRate.Median
		}
		if c.Summary.Base == "" && b.comparable(c) {
			c.Summary.Base = b.ID
			c.Summary.Ratio = ratio(c, b)
		}
	}
	if c.Summary.Base == c.ID {
		c.Summary.Base, c.Summary.Ratio = "", Spread{}
	}
}

// comparable tells whether b may be the base of c: what they promise and what
// they have to do is the same.
func (b *Case) comparable(c *Case) bool {
	if b.Durability.Class == Instrument {
		return c.ID == refBareNATS && b.ID == refOurNATS || c.ID == refMosquitto && b.ID == refOurMQTT
	}
	return b.Durability.Class == c.Durability.Class && b.Durability.Text == c.Durability.Text && b.Mode == c.Mode &&
		b.Offered == c.Offered && b.Size == c.Size && b.Fan == c.Fan && b.Topics == c.Topics &&
		(b.Inflight == c.Inflight || b.Inflight == 0 || c.Inflight == 0 || b.Sync || c.Sync)
}

// ceilingOf tells whether b is what the instrument can do at most in c.
func (b *Case) ceilingOf(c *Case) bool {
	if !strings.HasPrefix(b.ID, nullRoot) || b == c || b.Size != c.Size || c.Sync || c.Mode != Throughput {
		return false
	}
	return b.Protocol == c.Protocol && b.QoS == c.QoS || b.Protocol == MQTT && c.Protocol == Bridge && b.QoS == c.QoS
}

// ratio is c's publish rate by b's, in the rounds that both have.
func ratio(c, b *Case) Spread {
	var v []float64
	for i := range c.Rounds {
		for j := range b.Rounds {
			if c.Rounds[i].Round == b.Rounds[j].Round && b.Rounds[j].PublishRate > 0 {
				v = append(v, c.Rounds[i].PublishRate/b.Rounds[j].PublishRate)
			}
		}
	}
	return instrument.SpreadOf(v)
}
