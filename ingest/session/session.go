package session

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/news"
)

// Log is what a session needs of the log.
type Log interface {
	// Append hands over b and returns at once. Batches are made durable in the
	// order of Append. b.Done is called exactly once: with nil after b is on
	// disk, with an error if it never will be. While the log may not grow,
	// Done waits; the caller bounds what it hands over meanwhile.
	Append(b *mqttetl.Batch)
	// Hurry has the batches that have been handed over, which may be Patient, made
	// durable at once.
	Hurry()
	// PacketIDs returns the QoS 2 packet ids that are on disk for a session. It
	// includes every change of a batch that is Done.
	PacketIDs(session string) ([]uint16, error)
}

// Counters get the numbers of a session, once a batch. They may be called from
// any goroutine.
type Counters interface {
	HandedOver(*Tally)
	// Acknowledged counts PUBACKs and PUBRECs that have just been written, for
	// batches that were read at the given Unix nanoseconds.
	Acknowledged(n int, came []int64)
	IDReused()
	BadTopic()
	TooLarge()
}

// Tally counts the messages of one batch.
type Tally struct {
	Received    [3]uint64 // by QoS
	Bytes       uint64    // of PUBLISH packets
	Redelivered uint64
}

// Config describes a session. Everything but Log and Counters may be left out
// where it says so.
type Config struct {
	Source string // recorded with every message
	Key    string // of the session's QoS 2 packet ids in the log
	Sender string // who sends, in the words of the log: "the broker"

	ReceiveMaximum int           // unacknowledged messages that the sender was allowed (MQTT 5 §3.1.2.11.3)
	Aliases        uint16        // topic aliases that the sender was allowed (MQTT 5 §3.1.2.11.5); 0 without a Judge
	Recognised     int           // messages of QoS 1 that are known again when they are redelivered (again.go); 0: none
	Input          int           // bytes of the read buffer while little comes; 0: always as many as a read can bring
	Budget         *Budget       // shared with other sessions; nil: the session's own bounds are enough
	Unfinished     *Budget       // of messages that have not wholly come, shared with other sessions; nil: unbounded
	MaxPacket      int           // bytes of a PUBLISH, MinPacket at least; a record without payload takes the place of a larger one (large.go)
	Unread         time.Duration // what the sender may take to read the acknowledgements that it is owed

	Log      Log
	Logger   *slog.Logger
	Counters Counters
	// Failed is called when the log will not take what it was given. It may be
	// called from the goroutine that commits.
	Failed func(error)
}

// MinPacket is the least MaxPacket.
const MinPacket = longFrame // takePlain need not look at it

// A Session is what one sender has with us over any number of connections, of
// which one at a time is read. What has been handed to the log and is not yet
// there is bounded for all of them together.
type Session struct {
	Config
	window window

	toldQuota atomic.Bool // that the sender exceeds the receive maximum
	again     again       // of the connection that is read
	qos2      atomic.Bool // the log may have packet ids of QoS 2
	reused    news.Seldom // packet ids used again before their PUBACK
	badTopics news.Seldom
	large     news.Seldom // messages that are too large
	writers   sync.WaitGroup
}

// New returns a session without a connection.
func New(cfg Config) *Session { return &Session{Config: cfg, again: again{most: cfg.Recognised}} }

// UsedQoS2 says that the log may have packet ids of the session.
func (s *Session) UsedQoS2() bool { return s.qos2.Load() }

// Stored says that everything that was handed to the log is there.
func (s *Session) Stored() bool { return s.window.empty() }

// Wait returns when all connections have ended.
func (s *Session) Wait() { s.writers.Wait() }

func (s *Session) idReused(id uint16, says string) {
	s.Counters.IDReused()
	if n := s.reused.Count(); n > 0 {
		s.Logger.Warn(s.Sender+" "+says, "messages", n, "packet_id", id)
	}
}

// overQuota says, once in the life of the session, that the sender has more
// unacknowledged messages in flight than it may.
func (s *Session) overQuota(n int) {
	if !s.toldQuota.Swap(true) {
		s.Logger.Warn(s.Sender+" exceeds our receive maximum; its messages are taken all the same",
			"in_flight", n, "receive_maximum", s.ReceiveMaximum)
	}
}
