package forward

import (
	"log/slog"
	"time"

	"github.com/mqttetl/mqttetl"
)

// confirmed settles what an acknowledgement has spoken for.
func (f *Forwarder) confirmed(m mark) {
	f.settle(m.record)
	f.trouble.over()
	f.metrics.forwarded.Add(float64(m.messages))
	f.metrics.ackSeconds.Observe(time.Since(m.at).Seconds())
}

// settle moves the cursor up to seq.
func (f *Forwarder) settle(seq mqttetl.Seq) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cursor = seq
	f.passed = max(f.passed, seq)
	f.progress++
	f.publishErr, f.refused = nil, 0
	f.records.Commit(seq)
}

// pass settles a record that the stream will not hold after the one before it, so that the stream's last message is not taken for where to resume.
func (f *Forwarder) pass(seq mqttetl.Seq) {
	f.mu.Lock()
	if f.skip.to+1 != seq {
		f.skip.from = seq
	}
	f.skip.to = seq
	f.mu.Unlock()
	f.settle(seq)
}

// bury makes a record a dead letter; all before it is settled. A record at or
// before passed has been settled before, and is a dead letter already unless
// the stream has lost it since and now takes less.
func (f *Forwarder) bury(seq mqttetl.Seq, why string, passed mqttetl.Seq) {
	if seq <= passed {
		f.trouble.say(slog.LevelWarn, "a record that was settled before cannot be forwarded", "seq", seq, "reason", why)
		f.pass(seq)
		return
	}
	f.trouble.say(slog.LevelWarn, "a record cannot be forwarded: dead letter", "seq", seq, "reason", why)
	f.records.DeadLetter(mqttetl.DeadLetter{Seq: seq, Stage: mqttetl.StageForward, Reason: why, Time: time.Now().UnixNano()})
	f.metrics.deadLetters.Inc()
	f.pass(seq)
}
