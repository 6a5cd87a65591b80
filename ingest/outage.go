package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// outage is what a link remembers of its failures until a connection lasts.
type outage struct {
	failures int    // in a row
	slow     int    // of them, those that will not pass until someone acts
	slowly   bool   // the last one will not
	brief    int    // connections in a row that were accepted and did not last
	silent   int    // attempts in a row in which CONNECT was not answered in time
	trouble  string // why the link is not connected or not subscribed, for Stats
}

// flapping: connection after connection is accepted and does not last. They
// come and go without a word, as tell has said so.
func (o *outage) flapping() bool { return o.brief >= closedAgain }

// closedAgain is how many such connections make it flapping.
const closedAgain = 3

// closedOften is how many make it a fight for the session rather than a bad
// network: from then on at the slow pace.
const closedOften = 20

// failed notes that a connection could not be made.
func (l *link) failed(err error) {
	l.counters.failed.Inc()
	l.mu.Lock()
	l.brief = 0
	l.mu.Unlock()
	l.tell(err)
}

// tell notes that a connection has ended or could not be made, and logs it
// when it is news or a while ago.
func (l *link) tell(err error) {
	if _, ours := errors.AsType[session.LogError](err); ours || errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
		l.mu.Lock()
		l.failures++
		l.slowly = false
		l.mu.Unlock()
		return // it was us
	}
	level, message, hint, slowly := judge(err)
	l.mu.Lock()
	l.failures++
	if l.slowly = slowly; slowly {
		l.slow++
	}
	l.trouble = err.Error()
	attempts := l.failures
	line := l.said.Failed(l.trouble)
	l.mu.Unlock()
	if !line.Say {
		return
	}
	attrs := []slog.Attr{slog.String("error", err.Error()), slog.Int("attempts", attempts)}
	if hint := cmp.Or(hint, mqttetl.Hint(err)); hint != "" {
		attrs = append(attrs, slog.String("hint", hint))
	}
	if !line.News {
		level = slog.LevelWarn
	}
	l.logger.LogAttrs(context.Background(), level, message, attrs...)
}

// news logs that the link is well again, unless it will not be for long.
func (l *link) news(message string, args ...any) {
	l.mu.Lock()
	level := slog.LevelInfo
	if l.flapping() {
		level = slog.LevelDebug
	}
	l.mu.Unlock()
	l.logger.Log(context.Background(), level, message, args...)
}

// errClosedAgain: the broker has closed several connections in a row soon after
// it had accepted them.
var errClosedAgain = fmt.Errorf("%w again, soon after accepting it", errClosedByBroker)

// errGivenUp: the control plane has closed the connection, while the link goes on.
var errGivenUp = errors.New("the broker answers no PINGREQ (no PINGRESP), or what it answers cannot be read")

// errClosedOften: the same has gone on for a long time.
var errClosedOften = fmt.Errorf("%w, for a long time", errClosedAgain)

// errNeverSubscribed: errClosedAgain before any filter was granted.
var errNeverSubscribed = errors.New("before it had granted a filter")

// judge says how a failure is to be told. Slowly means that it will not pass
// until someone acts, so that trying often has no use.
func judge(err error) (level slog.Level, message, hint string, slowly bool) {
	var r *refusal
	var fault *wire.Error
	switch {
	case errors.As(err, &r) && r.login():
		return slog.LevelError, "the broker refused the login",
			"check username, password and certificate of this source, and the broker's access rules", true
	case errors.As(err, &r) && r.version(), errors.Is(err, errAnswered311):
		return slog.LevelError, "the broker does not speak this version of MQTT",
			"set version to auto or to the one it speaks", true
	case errors.As(err, &r) && r.takenOver():
		return slog.LevelError, "another client took over the session",
			"give every client of this broker its own client_id; two mqttetl with one configuration share one", true
	case errors.As(err, &r) && r.remedy() != "":
		return slog.LevelError, "the broker ends the connection", r.remedy(), true
	case errors.Is(err, errNeverSubscribed):
		return slog.LevelWarn, "connections do not last",
			"some brokers close the connection where they refuse a filter: check their access rules; or another client is using " +
				"the same client_id: each must have its own", errors.Is(err, errClosedOften)
	case errors.Is(err, errClosedAgain):
		return slog.LevelWarn, "connections do not last",
			"another client may be using the same client_id: each must have its own", errors.Is(err, errClosedOften)
	case errors.As(err, &fault):
		return slog.LevelError, "connection ended for a broken protocol", "", false
	}
	return slog.LevelWarn, "no connection", hintOf(err), false
}

// hintOf says what may be the matter with a connection that cannot be made;
// what an error carries itself is nearer.
func hintOf(err error) string {
	var network net.Error
	switch {
	case mqttetl.Hint(err) != "":
		return ""
	case errors.Is(err, errSilent):
		return "something takes connections there and does not answer: is the broker overloaded, and does this port speak MQTT, without TLS?"
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer within " + dial.Timeout.String() + ": is the address right, and does every firewall let it through?"
	}
	return ""
}

// notAccepted returns why the present attempt at a connection failed: what its
// conn knows, or else err, with which the control plane gave up.
func (l *link) notAccepted(err error) error {
	c := l.current()
	if c == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if known := l.undialed; known != nil {
			l.undialed = nil
			return known
		}
		return err
	}
	c.data.Fail(err)
	l.setCurrent(nil)
	known := c.Err()
	var r *refusal
	var fault *wire.Error
	switch {
	case errors.As(known, &r), errors.As(known, &fault), dial.Alert(known):
		return known
	case errors.Is(known, errSilent):
		l.mu.Lock()
		defer l.mu.Unlock()
		l.silent++
		return known
	case errors.Is(known, err), errors.Is(known, net.ErrClosed), errors.Is(known, context.Canceled):
		return err
	case known == errClosedByBroker:
		return errUnanswered
	}
	return fmt.Errorf("%w: %w", errUnanswered, known)
}
