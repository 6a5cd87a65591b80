package doctor

import (
	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/client"
)

// noticed is the part of what a broker could deliver that an interval may cost
// before that is said.
const noticed = 0.1

// heldUp says if the interval caps what was measured to come through this broker's
// window. One of half of receive_maximum is committed for at once.
func (p *patient) heldUp(window int, rate float64) {
	interval := p.cfg.Log.CommitInterval
	if p.conn.Version() == client.Version5 && window >= (p.source.ReceiveMaximum+1)/2 {
		return
	}
	if most := session.Sustained(rate, window, p.trip, interval); most < rate*(1-noticed) {
		p.add(p.part, "commit interval", Warn, "lower log.commit_interval, or raise the broker's limit of messages in flight (Mosquitto: max_inflight_messages)",
			"log.commit_interval %v and a window of %d let a backlog come at %.0f messages/s over time; %.0f were measured", interval, window, most, rate)
	}
}
