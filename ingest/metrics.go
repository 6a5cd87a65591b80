package ingest

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl/ingest/session"
)

// Metrics are the counters of all sources of a process.
type Metrics struct {
	connected   *prometheus.GaugeVec
	received    *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	pubacks     *prometheus.CounterVec
	ackSeconds  *prometheus.HistogramVec
	redelivered *prometheus.CounterVec
	reconnects  *prometheus.CounterVec
	failed      *prometheus.CounterVec
	refused     *prometheus.CounterVec
	lowered     *prometheus.CounterVec
	sessionLost *prometheus.CounterVec
	dropped     *prometheus.GaugeVec
	reused      *prometheus.CounterVec
	badTopics   *prometheus.CounterVec
	tooLarge    *prometheus.CounterVec
}

// NewMetrics registers the metrics with r; nil leaves them unregistered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		connected: gauges("source_connected", "Connections to the broker that are up."),
		received:  counters("received_messages_total", "Messages handed to the log.", "qos"),
		bytes:     counters("received_bytes_total", "Bytes of the PUBLISH packets handed to the log."),
		pubacks:   counters("pubacks_total", "PUBACK and PUBREC packets sent."),
		ackSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mqttetl_puback_seconds",
			Help: "Time from reading messages of QoS 1 and 2 to writing their PUBACKs or PUBRECs, the commit between them; one observation for each read.",
			// Those of mqttetl_log_commit_seconds, to be compared with it.
			Buckets: prometheus.ExponentialBuckets(0.0001, 1.25, 50),
		}, []string{"source"}),
		redelivered: counters("redelivered_messages_total", "Messages of QoS 1 and 2 that the broker marked as sent again."),
		reconnects:  counters("reconnects_total", "Connections made after the first one."),
		failed:      counters("connect_failures_total", "Attempts at a connection that failed, the broker's refusals among them."),
		refused:     counters("subscription_refusals_total", "Filters that the broker refused; they are asked for again."),
		lowered:     counters("subscriptions_lowered_total", "Filters that the broker granted with a lower QoS than asked for."),
		sessionLost: counters("session_lost_total", "Connects at which the broker no longer had the session and what it had queued."),
		dropped:     gauges("broker_dropped_messages", "Messages the broker says it has dropped since it started ($SYS/broker/publish/messages/dropped)."),
		reused:      counters("reused_packet_ids_total", "Messages under a packet id whose exchange was not over; those of QoS 1 are stored and acknowledged, those of QoS 2 taken for the same message."),
		badTopics:   counters("malformed_topics_total", "Messages whose topic was not UTF-8 without NUL; they are stored under an escaped topic."),
		tooLarge:    counters("too_large_messages_total", "Messages beyond max_packet, or with more than 1 MiB of properties; a record without payload takes the place of each."),
	}
	if r != nil {
		for _, v := range m.all() {
			r.MustRegister(v)
		}
	}
	return m
}

// series is a metric with a value for each source.
type series interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

func (m *Metrics) all() []series {
	return []series{m.connected, m.received, m.bytes, m.pubacks, m.ackSeconds, m.redelivered, m.reconnects,
		m.failed, m.refused, m.lowered, m.sessionLost, m.dropped, m.reused, m.badTopics, m.tooLarge}
}

// Forget deletes what has been counted for a source that is no more.
func (m *Metrics) Forget(source string) {
	for _, v := range m.all() {
		v.DeletePartialMatch(prometheus.Labels{"source": source})
	}
}

func gauges(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mqttetl_" + name, Help: help}, []string{"source"})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	labels = append([]string{"source"}, labels...)
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mqttetl_" + name, Help: help}, labels)
}

// sourceCounters are the numbers of one source: state for Stats and history for
// Metrics, changed together and once a batch.
type sourceCounters struct {
	messages, qos0, acks, again, connects atomic.Uint64
	up, subscribed                        atomic.Int64 // connections

	connected                                               prometheus.Gauge
	received                                                [3]prometheus.Counter
	bytes, pubacks, redelivered, reconnections, sessionLost prometheus.Counter
	failed, refused, lowered, reused, badTopics, tooLarge   prometheus.Counter
	dropped                                                 prometheus.Gauge
	ackSeconds                                              prometheus.Observer
}

func newSourceCounters(m *Metrics, source string) *sourceCounters {
	c := &sourceCounters{
		connected:     m.connected.WithLabelValues(source),
		bytes:         m.bytes.WithLabelValues(source),
		pubacks:       m.pubacks.WithLabelValues(source),
		ackSeconds:    m.ackSeconds.WithLabelValues(source),
		redelivered:   m.redelivered.WithLabelValues(source),
		reconnections: m.reconnects.WithLabelValues(source),
		failed:        m.failed.WithLabelValues(source),
		refused:       m.refused.WithLabelValues(source),
		lowered:       m.lowered.WithLabelValues(source),
		reused:        m.reused.WithLabelValues(source),
		badTopics:     m.badTopics.WithLabelValues(source),
		tooLarge:      m.tooLarge.WithLabelValues(source),
		sessionLost:   m.sessionLost.WithLabelValues(source),
		dropped:       m.dropped.WithLabelValues(source),
	}
	for qos := range c.received {
		c.received[qos] = m.received.WithLabelValues(source, strconv.Itoa(qos))
	}
	return c
}

// HandedOver implements session.Counters.
func (c *sourceCounters) HandedOver(t *session.Tally) {
	if t.Received[0] > 0 {
		c.qos0.Add(t.Received[0])
	}
	for qos, n := range t.Received {
		if n > 0 {
			c.messages.Add(n)
			c.received[qos].Add(float64(n))
		}
	}
	c.bytes.Add(float64(t.Bytes))
	if t.Redelivered > 0 {
		c.again.Add(t.Redelivered)
		c.redelivered.Add(float64(t.Redelivered))
	}
}

// Acknowledged implements session.Counters.
func (c *sourceCounters) Acknowledged(n int, came []int64) {
	c.acks.Add(uint64(n))
	c.pubacks.Add(float64(n))
	now := time.Now().UnixNano()
	for _, at := range came {
		c.ackSeconds.Observe(float64(now-at) / 1e9)
	}
}

// IDReused implements session.Counters.
func (c *sourceCounters) IDReused() { c.reused.Inc() }

// BadTopic implements session.Counters.
func (c *sourceCounters) BadTopic() { c.badTopics.Inc() }

// TooLarge implements session.Counters.
func (c *sourceCounters) TooLarge() { c.tooLarge.Inc() }

// connection counts a connection up (+1) or down (−1).
func (c *sourceCounters) connection(change int64) {
	c.connected.Set(float64(c.up.Add(change)))
}

// reconnected counts a connection that was not the first of its link.
func (c *sourceCounters) reconnected() {
	c.connects.Add(1)
	c.reconnections.Inc()
}
