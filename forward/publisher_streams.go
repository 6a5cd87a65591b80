package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// streams sees to it that there is a stream for every subject.
func (p *Publisher) streams(ctx context.Context, c *conn) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	js, err := jetstream.New(c.Conn)
	if err != nil {
		return unavailable("use JetStream", err)
	}
	var missing []string
	for _, subject := range distinct(p.cfg.Subjects) {
		done := c.net.Expect(ctx, dial.MaxAnswer)
		_, err := js.StreamNameBySubject(ctx, subject)
		done()
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			missing = append(missing, subject)
		case err != nil:
			return unavailable("find the stream of "+subject, err)
		}
	}
	if len(missing) == 0 {
		p.lacksNothing()
		return nil
	}
	defer c.net.Expect(ctx, 2*dial.MaxAnswer)()
	name := PublishStream(p.cfg.Stream)
	if s, err := js.Stream(ctx, name); err == nil {
		have := s.CachedInfo().Config.Subjects
		return p.lacks(mqttetl.WithHint(unavailable("stream "+name, fmt.Errorf("no stream takes %s", strings.Join(missing, ", "))),
			cut(fmt.Sprintf("nats stream edit %s --subjects '%s'", name, strings.Join(append(have, missing...), ",")))))
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: missing, Storage: jetstream.FileStorage}); err != nil {
		return unavailable("create stream "+name, err)
	}
	p.lacksNothing()
	p.cfg.Logger.Info("stream created", "stream", name, "subjects", strings.Join(missing, ","), "storage", "file")
	return nil
}

// distinct leaves out the patterns that another one of them includes.
func distinct(patterns []string) (list []string) {
	sorted := slices.Clone(patterns)
	slices.SortStableFunc(sorted, func(a, b string) int { return cmp.Compare(len(strings.Split(a, ".")), len(strings.Split(b, "."))) })
	for i, p := range sorted {
		within := func(k int) bool { return k != i && includes(sorted[k], p) && (k < i || !includes(p, sorted[k])) }
		other := false
		for k := range sorted {
			other = other || within(k)
		}
		if !other {
			list = append(list, p)
		}
	}
	return list
}

// includes says whether every subject that matches b matches a.
func includes(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i, t := range as {
		switch {
		case t == ">":
			return len(bs) > i
		case i >= len(bs), bs[i] == ">", t != "*" && t != bs[i]:
			return false
		}
	}
	return len(as) == len(bs)
}
