package ingest

import (
	"sync"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// pingresp is a PINGRESP packet (MQTT 5 §3.13).
var pingresp = []byte{wire.Pingresp << 4, 0}

// pings keeps the keepalive alive while the connection does not read, because
// the log is paused, or reads one very long message: the broker's PINGRESP is
// then stuck behind PUBLISHes, and the control plane would give up on a
// connection that is well. In those states the conn answers the control
// plane's PINGREQ itself and swallows the real PINGRESP when it comes. The
// PINGREQ always goes out, so the broker sees its keepalive as well.
//
// A broker that is really gone is noticed one keepalive interval after reading
// has resumed.
type pings struct {
	mu         sync.Mutex
	unanswered int // PINGREQs sent that the control plane has no answer to
	owed       int // answered early: so many PINGRESPs will be swallowed
}

// request notes that the control plane is about to send a PINGREQ.
func (p *pings) request() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unanswered++
}

// answerEarly reports whether there is a PINGREQ to answer, and counts it as answered.
func (p *pings) answerEarly() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unanswered == 0 {
		return false
	}
	p.unanswered--
	p.owed++
	return true
}

// response takes a PINGRESP of the broker and reports whether the control plane gets it.
func (p *pings) response() (pass bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.owed > 0 {
		p.owed--
		return false
	}
	p.unanswered = max(0, p.unanswered-1)
	return true
}
