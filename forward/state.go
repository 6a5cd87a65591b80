package forward

import (
	"cmp"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
)

// Stats is the state of a Forwarder.
type Stats struct {
	Connected bool        // to a server, and the stream there can be used
	Cursor    mqttetl.Seq // all records up to it are confirmed or dead letters
	InFlight  int         // records sent and not confirmed
	LastError error       // what holds it up now, nil if nothing does
	Claimed   mqttetl.Seq // with Fresh, the highest record whose id is among the stream's last ones; anybody may have put it there
}

// refusedFor is after how many failures of publishing in a row, with nothing
// confirmed between, the stream counts as one that cannot be used. A message
// that is stored after its connection is lost costs one attempt.
const refusedFor = 3

// Stats returns the present state.
func (f *Forwarder) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Stats{Connected: f.reached && f.refused < refusedFor, Cursor: f.cursor, Claimed: f.claimed, LastError: cmp.Or(f.reachErr, f.publishErr)}
	if f.inFlight != nil {
		s.InFlight = f.inFlight()
	}
	return s
}

// stateResume says once where forwarding begins, and later when the stream no
// longer tells.
func (f *Forwarder) stateResume(c *conn, pos position, after mqttetl.Seq) {
	args := []any{"stream", f.cfg.Stream, "after", after, "server", c.server()}
	switch {
	case pos.mine && !f.began:
		f.log.Info("forwarding to NATS after the stream's last message of this log", args...)
	case pos.held != nil:
		f.trouble.say(slog.LevelWarn, "another writer publishes to the stream: it has taken the place of records, which are stored after later ones",
			"stream", f.cfg.Stream, "first", after+1, "stand_after", pos.held.last)
	case !pos.mine && pos.by != f.foreign:
		said := "the stream's last message is not of this log: forwarding after the stored position"
		if pos.by == nobody {
			said = "the stream is empty: forwarding after the stored position"
		} else {
			args = append(args, "last", pos.by)
		}
		f.trouble.say(slog.LevelInfo, said, args...)
	}
	f.foreign = pos.by
}

// stateDurability says what an acknowledgement is worth, when that is news.
func (f *Forwarder) stateDurability(sc *jetstream.StreamConfig) {
	text, weak := durability(sc)
	f.mu.Lock()
	before := f.worth
	f.worth = text
	f.mu.Unlock()
	if text == before {
		return
	}
	level := slog.LevelInfo
	if weak {
		level = slog.LevelWarn
	}
	f.trouble.say(level, "stream "+sc.Name+": "+text, "replicas", sc.Replicas, "storage", sc.Storage.String())
}

// blame keeps err as what holds forwarding up. mu is held.
func (f *Forwarder) blame(what string, err error) {
	if what == reaching {
		f.reached, f.reachErr = false, err
		return
	}
	f.publishErr = err
	f.refused++
}

// found notes that the stream is there and as it must be.
func (f *Forwarder) found() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reached, f.reachErr = true, nil
}

// lost notes that the connection has ended.
func (f *Forwarder) lost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reached = false
}
