package forward

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
)

// Metrics are the counters of one Forwarder.
type Metrics struct {
	forwarded   prometheus.Counter
	deadLetters prometheus.Counter
	errors      prometheus.Counter
	missing     prometheus.Counter
	forged      prometheus.Counter
	passed      prometheus.Counter
	inFlight    prometheus.Gauge
	ackSeconds  prometheus.Histogram
}

// NewMetrics registers the metrics with reg; with nil they are kept unregistered.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		forwarded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mqttetl_forwarded_messages_total",
			Help: "Records confirmed by JetStream.",
		}),
		deadLetters: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "mqttetl_dead_letters_total",
			Help:        "Records that a stage could not process and will not try again.",
			ConstLabels: prometheus.Labels{"stage": mqttetl.StageForward},
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "mqttetl_consumer_errors_total",
			Help:        "Attempts of a consumer that ended with an error and were made again.",
			ConstLabels: prometheus.Labels{"consumer": "nats"},
		}),
		missing: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "mqttetl_missing_messages_total",
			Help:        "Records that the log no longer held when a consumer came to them.",
			ConstLabels: prometheus.Labels{"consumer": "nats"},
		}),
		forged: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "mqttetl_nats_forged_ids_total",
			Help:        "Messages of other writers in the stream that had the id of a record or object of this log.",
			ConstLabels: prometheus.Labels{"consumer": "nats"},
		}),
		passed: newPassed("nats"),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mqttetl_forward_in_flight_messages",
			Help: "Records sent to NATS and not yet confirmed.",
		}),
		ackSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "mqttetl_forward_ack_seconds",
			Help:    "Time from sending a message that asks for an acknowledgement to having it.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9), // 0.1 ms .. 6.5 s
		}),
	}
	if reg != nil {
		reg.MustRegister(m.forwarded, m.deadLetters, m.errors, m.missing, m.forged, m.passed, m.inFlight, m.ackSeconds)
	}
	return m
}

func newPassed(consumer string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name:        "mqttetl_nats_passed_messages_total",
		Help:        "Records or objects taken for forwarded although the stream, which deletes from its middle, does not hold them any more.",
		ConstLabels: prometheus.Labels{"consumer": consumer},
	})
}
