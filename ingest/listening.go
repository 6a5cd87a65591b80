package ingest

// Listening are the numbers of a listener. It counts in the metrics of the sources:
// what it receives is a source's by its name.
type Listening struct{ *sourceCounters }

// NewListening returns the numbers of the listener of this name; nil metrics are
// not registered.
func NewListening(m *Metrics, name string) Listening {
	if m == nil {
		m = NewMetrics(nil)
	}
	return Listening{newSourceCounters(m, name)}
}

// Client counts a client that is connected (+1), or no more (−1).
func (l Listening) Client(change int64) { l.connection(change) }

// Clients is how many are connected.
func (l Listening) Clients() int64 { return l.up.Load() }

// Stats are the counters that a source has.
func (l Listening) Stats(name string) Stats {
	return Stats{
		Name: name, Received: l.messages.Load(), QoS0: l.qos0.Load(),
		Acknowledged: l.acks.Load(), Redelivered: l.again.Load(),
	}
}
