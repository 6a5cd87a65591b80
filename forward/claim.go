package forward

import (
	"context"
	"errors"
	"fmt"
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
	sent  bool   // an attempt before may have had the record stored at that place
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
	f.dispute.of, f.dispute.sent = of, seq <= f.unsure.upTo && of > f.unsure.above
	if f.dispute.tries++; f.dispute.tries > maxZeros {
		f.dispute = dispute{}
		return unavailable(fmt.Sprintf("publish record %d", seq), errTaken)
	}
	return errAgain
}

// unsure are the records that attempts have sent and nothing has confirmed: up to upTo,
// stored, if they are, at places above that number.
type unsure struct {
	upTo  mqttetl.Seq
	above uint64
}

// leave notes what an attempt has sent.
func (f *Forwarder) leave(a *attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unsure.upTo <= f.cursor {
		f.unsure = unsure{above: a.base}
	}
	f.unsure.upTo = max(f.unsure.upTo, a.sent)
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
	case contested && (rec.Seq <= a.passed || d.sent): // the message was ours, and has been deleted or consumed since
		a.f.pass(rec.Seq)
		return true, nil
	}
	if contested {
		a.enc.Zeros = d.tries
	}
	return false, nil
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
