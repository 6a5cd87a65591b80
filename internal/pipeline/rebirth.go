package pipeline

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// Bounds of what strangers' messages can make us ask for.
const (
	rebirthFresh = time.Minute      // a message received before that is history
	rebirthNodes = 10_000           // whose time is remembered
	rebirthQueue = 256              // nodes to be asked
	rebirthPause = time.Second      // between two connections
	rebirthRetry = 30 * time.Second // after a failure, unless the route says less
	rebirthTime  = 10 * time.Second // for connecting and publishing
)

// rebirths asks edge nodes of Sparkplug for the births that routes are missing.
// It publishes on connections of its own, one for those that have gathered:
// those of the sources receive, and nothing may be in the way of that.
type rebirths struct {
	sources map[string]*config.Source
	logger  *slog.Logger
	asked   *prometheus.CounterVec
	queue   chan transform.Unborn
	now     func() time.Time

	mu   sync.Mutex
	next map[rebirthKey]time.Time // before which a node is not asked again
	full time.Time                // until when all of next are to be remembered
}

type rebirthKey struct{ source, group, node string }

// newAsked counts the nodes that were asked, by source.
func newAsked(reg prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mqttetl_sparkplug_rebirths_requested_total", Help: "Edge nodes that were asked for their birth.",
	}, []string{"source"})
	reg.MustRegister(c)
	return c
}

// newRebirths returns nil where no route asks.
func newRebirths(cfg *config.Config, logger *slog.Logger, asked *prometheus.CounterVec) *rebirths {
	if !slices.ContainsFunc(cfg.Routes, func(r transform.Route) bool { return r.Rebirth > 0 }) {
		return nil
	}
	r := &rebirths{
		sources: map[string]*config.Source{}, logger: logger, queue: make(chan transform.Unborn, rebirthQueue),
		next: map[rebirthKey]time.Time{}, now: time.Now, asked: asked,
	}
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		r.sources[s.Name] = s
		r.asked.WithLabelValues(s.Name)
	}
	return r
}

// ask has nodes asked that have not been lately. It does not wait. A nil
// rebirths asks nobody.
func (r *rebirths) ask(list []transform.Unborn) {
	if r == nil || len(list) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for _, u := range list {
		key := rebirthKey{u.Source, u.Group, u.Node}
		if r.sources[u.Source] == nil || now.Sub(time.Unix(0, u.Time)) > rebirthFresh || now.Before(r.next[key]) || !r.room(now) {
			continue
		}
		select {
		case r.queue <- u:
			r.next[key] = now.Add(u.Every)
		default: // its next message tries again
		}
	}
}

// room says whether one more node can be remembered.
func (r *rebirths) room(now time.Time) bool {
	if len(r.next) < rebirthNodes {
		return true
	}
	if now.Before(r.full) {
		return false
	}
	r.full = now.Add(rebirthRetry)
	for key, next := range r.next {
		if !now.Before(next) {
			delete(r.next, key)
		} else if next.Before(r.full) {
			r.full = next
		}
	}
	return len(r.next) < rebirthNodes
}

func (r *rebirths) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-r.queue:
			r.publish(ctx, r.gather(u))
		}
		select {
		case <-ctx.Done():
		case <-time.After(rebirthPause):
		}
	}
}

// gather takes all that waits, by source.
func (r *rebirths) gather(first transform.Unborn) map[string][]transform.Unborn {
	all := map[string][]transform.Unborn{first.Source: {first}}
	for {
		select {
		case u := <-r.queue:
			all[u.Source] = append(all[u.Source], u)
		default:
			return all
		}
	}
}

func (r *rebirths) publish(ctx context.Context, all map[string][]transform.Unborn) {
	for name, nodes := range all {
		err := r.publishTo(ctx, r.sources[name], nodes)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.logger.Warn("edge nodes could not be asked for their birth", "source", name, "nodes", len(nodes), "error", err)
			r.later(nodes)
		default:
			r.asked.WithLabelValues(name).Add(float64(len(nodes)))
			r.logger.Info("asked edge nodes for their birth", "source", name, "nodes", len(nodes), "first", nodes[0].Group+"/"+nodes[0].Node)
		}
	}
}

// later lets nodes be asked again sooner than usual.
func (r *rebirths) later(nodes []transform.Unborn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full = time.Time{}
	for _, u := range nodes {
		r.next[rebirthKey{u.Source, u.Group, u.Node}] = r.now().Add(min(u.Every, rebirthRetry))
	}
}

// publishTo publishes with QoS 0 and without RETAIN, as Sparkplug wants commands.
func (r *rebirths) publishTo(ctx context.Context, s *config.Source, nodes []transform.Unborn) error {
	ctx, cancel := context.WithTimeout(ctx, rebirthTime)
	defer cancel()
	u, err := dial.URL(s.URL)
	if err != nil {
		return err
	}
	version, err := client.ParseVersion(s.Version)
	if err != nil {
		return err
	}
	c, err := ConnectSource(ctx, s, u, client.Options{Version: version, ClientID: s.ClientID + "-rebirth", CleanStart: true})
	if err != nil {
		return err
	}
	defer c.Disconnect(0)
	for _, n := range nodes {
		m := client.Message{Topic: decode.RebirthTopic(n.Group, n.Node), Payload: decode.Rebirth(r.now())}
		if _, err := c.Publish(&m); err != nil {
			return err
		}
	}
	return c.Drain(ctx)
}
