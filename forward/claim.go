package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// maxZeros is how many ids are tried for a record while others use them up.
const maxZeros = 8

// duplicate is the server's answer that it has a message of this id already, the
// stream's number of.
type duplicate struct{ of uint64 }

func (d duplicate) Error() string { return fmt.Sprintf("%v, number %d", errDuplicate, d.of) }
func (d duplicate) Unwrap() error { return errDuplicate }

// A dispute is about a record whose id the server knows from another message. That is
// our own, of which no acknowledgement came, or one by which somebody wants to
// have the record dropped.
type dispute struct {
	seq   mqttetl.Seq
	of    uint64 // that message's number
	tries int    // so many of the record's ids were in use
	found found  // that message, in an attempt
}

// errTaken: all ids of a record that are tried are in use by others.
var errTaken = errors.New("another writer has used its message ids, they are free when the stream's duplicate window is over")

// contest begins a dispute, or goes on with it. The next attempt reads the other
// message. If that has the record's content it is the record. If not, the record gets an
// id that is another text with the same number: one with a zero before it.
func (f *Forwarder) contest(seq mqttetl.Seq, of uint64) error {
	if f.dispute.seq != seq {
		f.dispute = dispute{seq: seq}
	}
	f.dispute.of = of
	if f.dispute.tries++; f.dispute.tries > maxZeros {
		f.dispute = dispute{}
		return unavailable(fmt.Sprintf("publish record %d", seq), errTaken)
	}
	return errAgain
}

// hear reads the message that a dispute is about.
func (f *Forwarder) hear(ctx context.Context, c *conn) (d dispute, err error) {
	d = f.dispute
	if d.seq != 0 {
		d.found, err = f.message(ctx, c, d.of)
	}
	return d, err
}

// examine looks whether the record, of which m is made, is in the stream already
// although nothing but its content proves it. If it is, done is true and the cursor is
// past it. It is called before the attempt has sent anything, which keeps the order.
//
// A message that is gone again proves nothing: it was ours, and somebody has consumed
// it, or another writer's, whom the stream has let delete it. A record that was confirmed before
// is left at that, and one before others that are in the stream, unless an attempt has seen that
// one of these was not acknowledged in its turn. Any other is published: twice is better than not at all.
func (a *attempt) examine(ctx context.Context, rec *mqttetl.Record, m *natsmsg.Message) (done bool, err error) {
	sums, d := a.claims[rec.Seq], &a.dispute
	contested := d.seq == rec.Seq
	if contested && d.found.there && d.of > a.proven {
		sums = append(sums, d.found.sum)
	}
	switch {
	case len(sums) > 0 && slices.Contains(sums, sumOf(m)):
		return true, a.skip(ctx, rec.Seq)
	case len(sums) > 0, contested && d.found.there:
		a.f.stateForged(rec.Seq)
	case contested && rec.Seq < a.held.lateBehind(rec.Seq) && rec.Seq > a.f.displaced:
		a.f.statePassed(1, rec.Seq, "they were in flight, and later ones are in the stream")
		a.f.pass(rec.Seq)
		return true, nil
	case contested && rec.Seq <= a.passed:
		a.f.statePassed(1, rec.Seq, "it was confirmed before")
		a.f.pass(rec.Seq)
		return true, nil
	case contested:
		a.f.trouble.say(slog.LevelWarn, "a message with the id of a record is gone from the stream again, and nothing shows that it was the record: the record is published under another id",
			"stream", a.f.cfg.Stream, "record", rec.Seq)
	}
	if contested {
		a.enc.Zeros = d.tries
	}
	return false, nil
}

// statePassed says that records, the last of them seq, are not published although the
// stream does not hold them, and why.
func (f *Forwarder) statePassed(n int, seq mqttetl.Seq, why string) {
	f.metrics.passed.Add(float64(n))
	f.trouble.say(slog.LevelInfo, "records that the stream has deleted again are taken for forwarded", "why", why, "records", n, "last", seq, "stream", f.cfg.Stream)
}

// stateForged says once that another writer uses ids of ours.
func (f *Forwarder) stateForged(seq mqttetl.Seq) {
	f.metrics.forged.Inc()
	if f.forged {
		return
	}
	f.forged = true
	f.log.Warn("another writer publishes messages with the ids of this log's records to the stream: they count for nothing, and the records are forwarded",
		"stream", f.cfg.Stream, "record", seq, "hint", "let nobody else publish to "+f.cfg.SubjectPrefix+".>")
}
