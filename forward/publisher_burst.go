package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl"
)

// Bounds of what is unacknowledged at a time.
const (
	burstMessages = 1024
	burstBytes    = 4 << 20
)

// burst is what is published and not acknowledged yet.
type burst struct {
	c       *conn
	inbox   string
	acks    chan *nats.Msg
	max     int // payload, bytes
	sent    []sent
	bytes   int
	buried  int
	refused []sent // no stream has taken them
	doubles []double
	letters []mqttetl.DeadLetter
	unmade  []mqttetl.DeadLetter // of the mapper; of two of a record the one in letters counts, which speaks for all of it
}

type sent struct {
	seq            mqttetl.Seq
	route, subject string
	id             string // Nats-Msg-Id
	sum            uint64 // as found.object
	answered       bool
	there          bool // the stream holds it now
}

// double is an object of whose id the server has a message already: it has been
// published before, or somebody else has used the id.
type double struct {
	sent
	at     int // in burst.sent
	stream string
	of     uint64 // the message's number
}

// errUnread: a message that the server calls a duplicate of may not be read.
var errUnread = errors.New("read what has the id of an object")

func (b *burst) due() bool { return len(b.sent) >= burstMessages/2 || b.bytes >= burstBytes }

func (b *burst) bury(s sent, why string) {
	b.letters = append(b.letters, mqttetl.DeadLetter{Seq: s.seq, Stage: mqttetl.PublishStage(s.route), Reason: why, Time: time.Now().UnixNano()})
}

// answered takes an acknowledgement or refusal.
func (p *Publisher) answered(b *burst, m *nats.Msg) error {
	i, err := strconv.Atoi(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:])
	if err != nil || i < 0 || i >= len(b.sent) || b.sent[i].answered {
		return unavailable("publish objects", fmt.Errorf("an acknowledgement of nothing: %.100q", m.Subject))
	}
	b.sent[i].answered = true
	s := b.sent[i]
	switch ans, err := parseAnswer(m); {
	case err == nil && ans.Duplicate && !p.blind:
		b.doubles = append(b.doubles, double{s, i, ans.Stream, ans.Seq})
		return nil
	case err == nil:
		b.sent[i].there = true
		p.accepted(s)
		return nil
	case judge(err) == bury:
		b.bury(s, err.Error())
		b.buried++
		return nil
	case errors.Is(err, errNoStream):
		b.refused = append(b.refused, s)
		return nil
	default:
		return unavailable("publish to "+s.subject, err)
	}
}

// await waits for the acknowledgements of all that is sent.
func (p *Publisher) await(ctx context.Context, b *burst) error {
	if len(b.sent) == 0 {
		return nil
	}
	late := time.NewTimer(ackWaitFirst)
	defer late.Stop()
	for left := len(b.sent); left > 0; left-- {
		select {
		case m := <-b.acks:
			if err := p.answered(b, m); err != nil {
				return err
			}
		case <-late.C:
			return unavailable("publish objects", fmt.Errorf("%d of %d without acknowledgement within %v", left, len(b.sent), ackWaitFirst))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := p.compare(ctx, b); err != nil {
		return err
	}
	if err := p.refuse(ctx, b); err != nil {
		return err
	}
	p.cfg.Metrics.published.Add(float64(len(b.sent) - b.buried))
	b.sent, b.bytes, b.buried = b.sent[:0], 0, 0
	return nil
}

// compare reads what the server calls duplicates. An object whose id is that of
// something else is published again under another one, with all of its burst; so is one
// whose message is gone from the stream, unless a later object of the same subject has
// taken its place: it may have been ours, consumed since, but nothing shows that.
func (p *Publisher) compare(ctx context.Context, b *burst) error {
	foreign := false
	slices.SortFunc(b.doubles, func(x, y double) int { return y.at - x.at })
	for _, d := range b.doubles {
		m, err := b.c.message(ctx, d.stream, d.of)
		switch {
		case err != nil && errors.Is(context.Cause(ctx), nats.ErrPermissionViolation):
			return fmt.Errorf("%w: %w", errUnread, context.Cause(ctx))
		case err != nil:
			return err
		case m.there && m.object == d.sum:
			b.sent[d.at].there = true
			p.accepted(d.sent)
		case !m.there && d.seq <= p.again && b.superseded(&d):
			p.cfg.Metrics.passed.Inc()
			p.trouble.say(slog.LevelInfo, "objects in whose place the stream holds a later one of the same subject are taken for published",
				"stream", d.stream, "route", d.route, "record", d.seq)
			p.accepted(d.sent)
		case p.taken[d.id] >= maxZeros:
			return unavailable("publish to "+d.subject, errTaken)
		default:
			p.taken[d.id]++
			foreign = true
			if m.there {
				p.cfg.Metrics.forged.Inc()
				continue
			}
			p.trouble.say(slog.LevelWarn, "a message with the id of an object is gone from the stream again, and nothing shows that it was the object: the object is published under another id",
				"stream", d.stream, "route", d.route, "record", d.seq)
		}
	}
	b.doubles = b.doubles[:0]
	if foreign {
		return errRecheck
	}
	return nil
}

// superseded says whether the stream holds a later object of the same subject.
func (b *burst) superseded(d *double) bool {
	return slices.ContainsFunc(b.sent[d.at+1:], func(s sent) bool { return s.there && s.subject == d.subject })
}

// PublisherMetrics are the counters of one Publisher.
type PublisherMetrics struct {
	published, deadLetters, errors, missing, forged, passed prometheus.Counter
	refused                                                 prometheus.Gauge
}

// NewPublisherMetrics registers the metrics with reg; with nil they are kept unregistered.
func NewPublisherMetrics(reg prometheus.Registerer) *PublisherMetrics {
	counter := func(name, help string, labels prometheus.Labels) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	consumer := prometheus.Labels{"consumer": "publish"}
	m := &PublisherMetrics{
		published: counter("mqttetl_published_objects_total", "Mapped objects confirmed by JetStream.", nil),
		deadLetters: counter("mqttetl_dead_letters_total", "Records that a stage could not process and will not try again.",
			prometheus.Labels{"stage": "publish"}),
		errors:  counter("mqttetl_consumer_errors_total", "Attempts of a consumer that ended with an error and were made again.", consumer),
		missing: counter("mqttetl_missing_messages_total", "Records that the log no longer held when a consumer came to them.", consumer),
		forged:  counter("mqttetl_nats_forged_ids_total", "Messages of other writers in the stream that had the id of a record or object of this log.", consumer),
		passed:  newPassed("publish"),
		refused: prometheus.NewGauge(prometheus.GaugeOpts{Name: "mqttetl_publish_refused_subjects",
			Help: "Subjects of mapped objects that no stream takes."}),
	}
	if reg != nil {
		reg.MustRegister(m.published, m.deadLetters, m.errors, m.missing, m.forged, m.passed, m.refused)
	}
	return m
}
