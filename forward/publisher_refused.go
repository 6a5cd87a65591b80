package forward

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
)

const (
	// refusalPatience is how long an object that no stream takes holds up those
	// behind it, before it and its like become dead letters: as long as somebody
	// needs who makes a stream anew.
	refusalPatience = time.Minute
	// refusalCheck is how often the streams are looked at again while something
	// is refused, and how long the server's word for a subject is good.
	refusalCheck = 10 * time.Second
	// refusalMemory is how long a refused subject counts that nothing is
	// published to any more.
	refusalMemory = 10 * time.Minute
	// maxRefused bounds the refused subjects of a route that are remembered.
	maxRefused = 1000
)

// errRecheck ends a session in order to look at the streams again.
var errRecheck = errors.New("look at the streams again")

// refusals are what no stream takes. The server says so of each message (503),
// and that may pass: a stream without a leader answers the same. So it is asked
// whether it has a stream for the subject. If it has none, the object is tried
// again until the patience with its route is over, and is a dead letter then;
// so are the following ones of the route that are refused, at once. What other
// subjects hold is published meanwhile, and the position moves: the log can be
// trimmed. The raw messages know nothing of it.
type refusals struct {
	patience time.Duration
	every    time.Duration // refusalCheck
	checked  time.Time     // when the streams were looked at last
	routes   map[string]*refusedRoute
	lacking  time.Time // since when Subjects have not all had a stream; zero: they have
	said     bool      // of that
}

// refusedRoute is what no stream takes of one route.
type refusedRoute struct {
	since    time.Time
	said     bool
	subjects map[string]time.Time // and when the server has last said so
}

// waiting says that something is refused and may still be taken.
func (r *refusals) waiting() bool {
	for _, v := range r.routes {
		if time.Since(v.since) < r.patience {
			return true
		}
	}
	return false
}

func (r *refusals) none() bool { return len(r.routes) == 0 && r.lacking.IsZero() }

// next are the next records. While something is refused it does not wait for
// them for long.
func (p *Publisher) next(ctx context.Context) ([]mqttetl.Record, error) {
	brief, cancel := ctx, context.CancelFunc(func() {})
	if !p.refused.none() {
		if time.Since(p.refused.checked) > p.refused.every {
			return nil, errRecheck
		}
		brief, cancel = context.WithTimeout(ctx, p.refused.every)
	}
	defer cancel()
	records, err := p.records.Next(brief, nextMax)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && brief.Err() != nil:
		return nil, errRecheck
	case err != nil:
		return nil, fatal{fmt.Errorf("read the log: %w", err)}
	}
	return records, nil
}

// refuse decides about the objects of b that no stream has taken.
func (p *Publisher) refuse(ctx context.Context, b *burst) error {
	for _, s := range b.refused {
		if err := p.unclaimed(ctx, b.c, s); err != nil {
			return err
		}
		r := p.refused.routes[s.route]
		why := fmt.Errorf("publish to %s: %w", s.subject, errNoStream)
		if time.Since(r.since) < p.refused.patience {
			return mqttetl.WithHint(unavailable("publish objects of route "+s.route, why), "create a JetStream stream that takes the subject")
		}
		if !r.said {
			r.said = true
			p.cfg.Logger.Warn("objects of a route that no stream takes become dead letters; mqttetl transform rerun --publish publishes them when one does",
				"route", s.route, "subject", s.subject)
		}
		b.buried++
		if p.cfg.NoLetters {
			p.cfg.Metrics.deadLetters.Inc()
			continue
		}
		b.bury(s, why.Error())
	}
	b.refused = b.refused[:0]
	return nil
}

// unclaimed notes that there is no stream for the subject of s, after asking
// the server. The error says that there is one, or that the server does not know.
func (p *Publisher) unclaimed(ctx context.Context, c *conn, s sent) error {
	r := p.refused.routes[s.route]
	if r != nil && time.Since(r.subjects[s.subject]) < p.refused.every {
		return nil
	}
	taken, err := hasStream(ctx, c, s.subject)
	switch {
	case err != nil:
		return err
	case taken: // without a leader, or made a moment ago
		return unavailable("publish to "+s.subject, errors.New("its stream does not answer"))
	}
	if r == nil {
		r = &refusedRoute{since: time.Now(), subjects: map[string]time.Time{}}
		p.refused.routes[s.route] = r
	}
	if _, known := r.subjects[s.subject]; known || len(r.subjects) < maxRefused {
		r.subjects[s.subject] = time.Now()
	}
	p.showRefused()
	return nil
}

// hasStream asks the server for the stream that takes a subject.
func hasStream(ctx context.Context, c *conn, subject string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	defer c.net.Expect(ctx, dial.MaxAnswer)()
	js, err := jetstream.New(c.Conn)
	if err != nil {
		return false, unavailable("use JetStream", err)
	}
	switch _, err = js.StreamNameBySubject(ctx, subject); {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return false, nil
	case err != nil:
		return false, unavailable("find the stream of "+subject, err)
	}
	return true, nil
}

// accepted: a stream has taken s.
func (p *Publisher) accepted(s sent) {
	r := p.refused.routes[s.route]
	if r == nil {
		return
	}
	if _, ok := r.subjects[s.subject]; ok {
		p.forget(s.route, r, s.subject)
	}
}

// forget: the subject is not refused any more.
func (p *Publisher) forget(route string, r *refusedRoute, subject string) {
	delete(r.subjects, subject)
	if len(r.subjects) == 0 {
		delete(p.refused.routes, route)
		if r.said {
			p.cfg.Logger.Info("objects of a route are published again", "route", route, "subject", subject)
		}
	}
	p.showRefused()
}

// recheck asks again for the streams of what is refused.
func (p *Publisher) recheck(ctx context.Context, c *conn) error {
	p.refused.checked = time.Now()
	for route, r := range p.refused.routes {
		for subject, at := range r.subjects {
			taken, err := hasStream(ctx, c, subject)
			if err != nil {
				return err
			}
			if taken || time.Since(at) > refusalMemory {
				p.forget(route, r, subject)
			}
		}
	}
	p.showRefused()
	return nil
}

// lacks notes that no stream takes some of the configured subjects. The error
// ends the session while somebody may be about to mend that.
func (p *Publisher) lacks(err error) error {
	r := &p.refused
	if r.lacking.IsZero() {
		r.lacking = time.Now()
	}
	p.set(func() { p.untaken = err })
	if time.Since(r.lacking) < r.patience {
		return err
	}
	if !r.said {
		r.said = true
		p.cfg.Logger.Warn("what no stream takes becomes dead letters, the rest is published", "error", err, "hint", mqttetl.Hint(err))
	}
	return nil
}

// lacksNothing is the end of lacks.
func (p *Publisher) lacksNothing() { p.refused.lacking, p.refused.said = time.Time{}, false }

// showRefused brings Stats and the metric up to date.
func (p *Publisher) showRefused() {
	var list []string
	for _, r := range p.refused.routes {
		list = slices.AppendSeq(list, maps.Keys(r.subjects))
	}
	p.cfg.Metrics.refused.Set(float64(len(list)))
	if !p.refused.lacking.IsZero() {
		return // says more
	}
	var err error
	if len(list) > 0 {
		slices.Sort(list)
		const shown = 3
		more := ""
		if len(list) > shown {
			more = fmt.Sprintf(" and %d more", len(list)-shown)
		}
		err = unavailable("publish objects", fmt.Errorf("no stream takes %s%s", strings.Join(list[:min(shown, len(list))], ", "), more))
	}
	p.set(func() { p.untaken = err })
}
