package ingest

import (
	"errors"
	"fmt"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// errVersion: the link is to go on with the other version of MQTT.
var errVersion = errors.New("the other version of MQTT")

// errUnanswered: the broker has closed the connection before it had answered
// CONNECT.
var errUnanswered = fmt.Errorf("%w without an answer", errClosedByBroker)

// errAnswered311: the broker has answered MQTT 5 as if it had been 3.1.1.
var errAnswered311 = wire.Malformed("a CONNACK of MQTT 3.1.1 for a CONNECT of MQTT 5")

// errSilent: the broker has not answered CONNECT in time.
var errSilent = errors.New("the broker does not answer CONNECT")

// choice is how a link with version auto finds the version of its broker.
//
// A CONNACK decides: one that refuses the version means 3.1.1 until the process
// ends. A broker that only knows 3.1.1 may as well close the connection or say
// nothing (ActiveMQ 5), which a broken network or a broker that is about to
// start does too. So silence changes the version for one attempt, and never
// where the broker has accepted MQTT 5 before, in this or an earlier process. If
// 3.1.1 is accepted it stays for that connection; after the first one MQTT 5 is
// asked once more, after the second it is not.
type choice struct {
	only311   int  // times that 3.1.1 was answered after MQTT 5 was not
	saidSo    bool // that MQTT 5 gets no answer
	trying311 bool // because MQTT 5 got none
}

// unanswered says of an error that the broker took the connection and said
// nothing to our CONNECT.
func unanswered(err error) bool {
	return errors.Is(err, errUnanswered) || errors.Is(err, errSilent)
}

// changeFrom5 says whether the link goes on with 3.1.1 after MQTT 5 has failed
// with err. If so it has been counted and told.
func (l *link) changeFrom5(err error) bool {
	if l.cfg.Version != VersionAuto {
		return false
	}
	if r := (*refusal)(nil); errors.As(err, &r) && r.version() || errors.Is(err, errAnswered311) {
		l.versions = choice{}
		l.logger.Info("the broker does not speak MQTT 5; going on with 3.1.1")
		return true
	}
	if !unanswered(err) || l.spoke5() {
		return false
	}
	l.counters.failed.Inc()
	l.mu.Lock()
	l.failures++
	l.brief, l.slowly, l.trouble = 0, false, err.Error()
	l.mu.Unlock()
	if !l.versions.saidSo {
		l.logger.Warn("MQTT 5 gets no answer; trying 3.1.1", "error", err)
	}
	l.versions.saidSo, l.versions.trying311 = true, true
	return true
}

// failed311 notes that a connection of 3.1.1 could not be made, and says whether
// the link goes on with MQTT 5.
func (l *link) failed311(err error) bool {
	err = l.tried(err, false)
	if !l.versions.trying311 {
		l.failed(err)
		return false
	}
	var r *refusal
	if errors.As(err, &r) && !r.version() { // it has answered, if only with a refusal
		l.versions = choice{}
		l.failed(err)
		return false
	}
	l.failed(err)
	return true
}

// tried adds to the hint of an unanswered CONNECT which versions were tried.
func (l *link) tried(err error, v5 bool) error {
	if !unanswered(err) {
		return err
	}
	what := "only MQTT " + versionName(v5) + " was tried, as version says"
	switch {
	case l.cfg.Version != VersionAuto:
	case l.versions.trying311 || l.versions.saidSo:
		what = "MQTT 5 and 3.1.1 get no answer"
	case v5:
		what = "MQTT 5 gets no answer; it has spoken MQTT 5 before, so 3.1.1 is not tried: if another broker has taken its place, set version to 3.1.1"
	default:
		what = "MQTT 3.1.1, which was answered before, gets no answer now"
	}
	hint := hintOf(err)
	if errors.Is(err, errUnanswered) {
		hint = dial.Silence(dial.Secure(l.url.Scheme))
	}
	return mqttetl.WithHint(err, what+"; "+hint)
}

// ended311 notes that a connection of 3.1.1 has ended, and says whether MQTT 5 is
// asked once more.
func (l *link) ended311() bool {
	v := &l.versions
	if !v.trying311 {
		return false
	}
	if v.only311++; v.only311 > 1 {
		*v = choice{}
		return false
	}
	v.trying311 = false
	return true
}

// patience is how long the next CONNECT waits for its answer.
func (l *link) patience() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return min(l.pace.answer<<min(l.silent/2, 8), l.pace.answerMost)
}
