package door

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the counters of all listeners of a process, beside those that
// sources have too.
type Metrics struct {
	connects, refusals, denied, wills, dropped, again *prometheus.CounterVec
	sessions                                          *prometheus.GaugeVec
}

// NewMetrics registers the metrics with r; nil leaves them unregistered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mqttetl_" + name, Help: help}, append([]string{"source"}, labels...))
	}
	m := &Metrics{
		connects: counters("listener_connects_total", "Clients that were let in."),
		refusals: counters("listener_refusals_total", "Connections that were refused or ended for what the client did, by reason.", "reason"),
		denied:   counters("listener_denied_messages_total", "Messages that were not recorded, because the client may not publish to their topic."),
		wills:    counters("listener_wills_total", "Wills that were recorded."),
		dropped:  counters("listener_dropped_wills_total", "Wills that were not recorded, because the log took nothing and too many waited."),
		again:    counters("listener_taken_over_total", "Connections that ended because the same client has connected again."),
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mqttetl_listener_sessions", Help: "Sessions, those of clients that are away among them."}, []string{"source"}),
	}
	if r != nil {
		for _, v := range m.all() {
			r.MustRegister(v)
		}
	}
	return m
}

type series interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

func (m *Metrics) all() []series {
	return []series{m.connects, m.refusals, m.denied, m.wills, m.dropped, m.again, m.sessions}
}

// Forget deletes what has been counted for a listener that is no more.
func (m *Metrics) Forget(source string) {
	for _, v := range m.all() {
		v.DeletePartialMatch(prometheus.Labels{"source": source})
	}
}

// The reasons by which refusals are counted.
const (
	forLimit     = "connections"
	forSilence   = "no_connect"
	forLogin     = "login"
	forWill      = "will"
	forProtocol  = "protocol"
	forVersion   = "version"
	forClientID  = "client_id"
	forKeepAlive = "keepalive"
	forUnread    = "unread"
	forQuota     = "quota"
	forDenied    = "denied"
)
