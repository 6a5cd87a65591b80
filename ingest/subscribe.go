package ingest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// A subscribeFunc asks the broker for one filter and returns its answer: the
// granted QoS, or a code from 0x80 with the reason it gave. MQTT 3.1.1 cannot ask
// for a handling of retained messages.
type subscribeFunc func(ctx context.Context, filter string, qos byte, retained RetainHandling) (code byte, reason string, err error)

// How long to wait before asking for refused filters again.
const (
	askAgainFirst = time.Second
	askAgainMost  = time.Minute
)

// subscribe asks for every filter until all are granted or c ends.
func (l *link) subscribe(ctx context.Context, c *conn, ask subscribeFunc) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	pending := l.filters()
	for wait := askAgainFirst; ; wait = min(2*wait, askAgainMost) {
		pending = slices.DeleteFunc(pending, func(f string) bool { return l.granted(ctx, f, ask) })
		if len(pending) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
	if ctx.Err() != nil {
		return
	}
	l.setSubscribed()
	l.news("subscribed", "filters", len(l.cfg.Subscribe))
	l.watchDropped(ctx, ask)
}

// filters are the configured filters as they go to the broker (MQTT 5 §4.8.2).
func (l *link) filters() []string {
	filters := slices.Clone(l.cfg.Subscribe)
	if l.cfg.Share != "" {
		for i, f := range filters {
			filters[i] = "$share/" + l.cfg.Share + "/" + f
		}
	}
	return filters
}

// granted asks for one filter and says whether the broker will serve it.
func (l *link) granted(ctx context.Context, filter string, ask subscribeFunc) bool {
	code, words, err := ask(ctx, filter, l.cfg.QoS, l.cfg.Retained)
	switch {
	case ctx.Err() != nil:
		return false
	case code >= 0x80:
		l.counters.refused.Inc()
		meaning := wire.CodeText(code)
		l.setTrouble(fmt.Sprintf("the broker refused %s: %s", filter, meaning))
		l.logger.Warn("the broker refused a subscription; will ask again",
			"filter", filter, "code", fmt.Sprintf("0x%02x", code), "meaning", meaning, "reason", words)
		return false
	case err != nil:
		l.setTrouble(fmt.Sprintf("subscribe to %s: %v", filter, err))
		l.logger.Warn("a subscription failed; will ask again", "filter", filter, "error", err)
		return false
	case code < l.cfg.QoS:
		l.counters.lowered.Inc()
		l.logger.Warn("the broker granted less than asked", "filter", filter, "asked", l.cfg.QoS, "granted", code)
	}
	return true
}

// asPublished finds out whether a broker takes subscriptions that ask for retain
// as published. One that refuses them, or ends the connection, twice before any
// was granted is asked without in turn. If that is granted, the reason may still
// have been another one, that has passed: so the next connection asks once more.
type asPublished struct {
	mu       sync.Mutex
	granted  bool
	failures int
	without  int  // connections on which only a subscription without it was granted
	here     bool // the present one is among them
}

// begin is called for each new connection.
func (a *asPublished) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.here = false; a.without == 1 {
		a.failures = 1
	}
}

func (a *asPublished) ask() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.granted || a.without < 2 && (a.failures < 2 || a.failures%2 == 1)
}

// answer notes how an ask ended, with the code of its SUBACK or 0x80 if there was
// none, and says whether it is the first to show that the broker does not take the option.
func (a *asPublished) answer(asked bool, code byte) (denied bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case code > wire.CodeImplementation: // has another reason: the filter, a quota
	case code >= wire.CodeUnspecified:
		a.failures++
	case asked:
		a.granted = true
	case !a.here:
		a.here = true
		a.without++
		return a.without == 1
	}
	return false
}

// setTrouble keeps for Stats why the link is not subscribed.
func (l *link) setTrouble(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trouble = why
}

// watchDropped subscribes to what the broker says it has dropped. Not every
// broker has it, and some end the connection of a client that asks: then it is
// left out from the next connection on.
func (l *link) watchDropped(ctx context.Context, ask subscribeFunc) {
	if !l.watches.Swap(false) { // until the answer
		return
	}
	// Always retained: the broker publishes the count only when it changes, and
	// it may have changed while we were away.
	code, _, err := ask(ctx, droppedTopic, 0, RetainAlways)
	if err == nil || code >= 0x80 {
		l.watches.Store(true)
	}
	if code >= 0x80 {
		l.logger.Debug("the broker does not tell what it drops", "code", fmt.Sprintf("0x%02x", code))
	}
}

// within returns a context that ends with the connection as well.
func (c *conn) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-c.data.Closed():
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
