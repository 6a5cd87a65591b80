package pipeline

import (
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/wal"
)

// Status is the document of GET /status and of `mqttetl status`.
type Status struct {
	Ready         bool             `json:"ready"`               // what /readyz says
	Version       string           `json:"version"`             // of the program that wrote the document
	UptimeSeconds int64            `json:"uptime_seconds"`      // whole seconds since the start; 0 when down
	Sources       []SourceStatus   `json:"sources"`             // in the order of the configuration
	Listeners     []ListenerStatus `json:"listeners,omitempty"` // in the order of the configuration
	Log           LogStatus        `json:"log"`
	Archive       *ArchiveStatus   `json:"archive,omitempty"` // absent: off
	NATS          *NATSStatus      `json:"nats,omitempty"`    // absent: off
	Publish       *NATSStatus      `json:"publish,omitempty"` // what routes publish; absent: none does
}

// SourceStatus counts since the start of the process.
type SourceStatus struct {
	Name         string `json:"name"`
	Connected    bool   `json:"connected"`       // to the broker, on all connections of the source
	Received     uint64 `json:"received"`        // messages
	Acknowledged uint64 `json:"acknowledged"`    // messages whose PUBACK or PUBREC was sent
	Redelivered  uint64 `json:"redelivered"`     // messages that came with DUP set
	Reconnects   uint64 `json:"reconnects"`      // connections after the first
	QoS0         uint64 `json:"qos0,omitempty"`  // of received: of QoS 0, which has no acknowledgement
	Error        string `json:"error,omitempty"` // why it is not connected or not subscribed
}

// ListenerStatus is a listener, which counts as a source does.
type ListenerStatus struct {
	Name         string `json:"name"`
	Address      string `json:"address"`
	Clients      int64  `json:"clients"`        // that are connected
	Sessions     int    `json:"sessions"`       // those of clients that are away among them
	Received     uint64 `json:"received"`       // messages
	Acknowledged uint64 `json:"acknowledged"`   // messages whose PUBACK or PUBREC was sent
	Redelivered  uint64 `json:"redelivered"`    // messages that came with DUP set
	QoS0         uint64 `json:"qos0,omitempty"` // of received: of QoS 0, which has no acknowledgement
}

// LogStatus is what the log holds.
type LogStatus struct {
	First       mqttetl.Seq `json:"first"` // 0 while the log is empty
	Last        mqttetl.Seq `json:"last"`
	Bytes       int64       `json:"bytes"`
	Paused      bool        `json:"paused"`                 // full: nothing is acknowledged until there is room
	FileBytes   int64       `json:"file_bytes"`             // of its file, free pages included
	PauseReason string      `json:"pause_reason,omitempty"` // why it is paused
	HeldBy      string      `json:"held_by,omitempty"`      // which processes keep free pages from being used again
}

// ArchiveStatus is where the archive is.
type ArchiveStatus struct {
	Cursor mqttetl.Seq `json:"cursor"`          // the last record in the archive
	Lag    uint64      `json:"lag"`             // records between the cursor and the end of the log
	Error  string      `json:"error,omitempty"` // why it is not open

	WALBytes int64  `json:"wal_bytes"`         // of the file of its write-ahead log
	HeldBy   string `json:"held_by,omitempty"` // which processes may keep that from being emptied
}

// NATSStatus is where the stream of one consumer is.
type NATSStatus struct {
	Cursor    mqttetl.Seq `json:"cursor"` // the last record that the stream has confirmed
	Lag       uint64      `json:"lag"`
	Connected bool        `json:"connected"`       // to a server, and the stream there can be used
	Error     string      `json:"error,omitempty"` // why records do not get there
}

// Lag is the number of records after cursor.
func Lag(cursor, last mqttetl.Seq) uint64 {
	if cursor >= last {
		return 0
	}
	return uint64(last - cursor)
}

// Status is what the parts say of themselves. It may be called at any time, from
// any goroutine. The cursors are read before the end of the log, so that no lag is
// counted short.
func (p *Pipeline) Status() Status {
	s := Status{
		Ready:         len(p.NotReady()) == 0,
		Version:       p.o.Version,
		UptimeSeconds: int64(time.Since(p.o.Started).Seconds()),
		Sources:       []SourceStatus{},
	}
	p.fromTheTop(func(a *actor) {
		if r, ok := a.Part.(reporter); ok {
			r.report(&s)
		}
	})
	return s
}

// SetLog fills in the log and, measured by it, the lags.
func (s *Status) SetLog(v wal.Stats) {
	s.Log = LogStatus{First: v.First, Last: v.Last, Bytes: v.Bytes, FileBytes: v.File, Paused: v.Paused, PauseReason: v.PauseReason, HeldBy: v.HeldBy}
	if s.Archive != nil {
		s.Archive.Lag = Lag(s.Archive.Cursor, v.Last)
	}
	if s.NATS != nil {
		s.NATS.Lag = Lag(s.NATS.Cursor, v.Last)
	}
	if s.Publish != nil {
		s.Publish.Lag = Lag(s.Publish.Cursor, v.Last)
	}
}

// NotReady names every source that is not subscribed and every store or server
// that cannot be used, with the reason where one is known; none when all is ready.
func (p *Pipeline) NotReady() (reasons []string) {
	if p.ends.Load() {
		reasons = append(reasons, "stopping")
	}
	p.fromTheTop(func(a *actor) {
		if why := a.Ready(); why != "" {
			reasons = append(reasons, a.name+": "+why)
		}
	})
	return reasons
}

// Begun tells whether the service has started as the service manager sees it:
// every source has been subscribed once and the archive is open. It stays so when a
// broker is lost later, and does not wait for NATS.
func (p *Pipeline) Begun() bool {
	begun := true
	p.fromTheTop(func(a *actor) {
		if s, ok := a.Part.(starter); ok && !s.begun() {
			begun = false
		}
	})
	return begun
}

// Alive tells whether the commit loop moves, or is rightly idle.
func (p *Pipeline) Alive() bool {
	return p.log == nil || p.pulse.beats(p.log.Stats(), time.Now())
}

// StuckAfter is how long the commit loop may stand still with work before it.
// A disk can take long for a sync; a minute is beyond what one needs.
const StuckAfter = time.Minute

// pulse tells from one look at the log to the next whether its commit loop
// moves or is rightly idle: nothing to do, or paused until there is room.
type pulse struct {
	mu    sync.Mutex
	seen  progress
	since time.Time // when seen was seen first
}

// progress is what changes with every commit.
type progress struct {
	last       mqttetl.Seq
	committing time.Time
}

func (p *pulse) beats(s wal.Stats, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := s.Queued == 0 && s.CommittingSince.IsZero()
	at := progress{s.Last, s.CommittingSince}
	if idle || s.Paused || at != p.seen || p.since.IsZero() {
		p.seen, p.since = at, now
	}
	return now.Sub(p.since) < StuckAfter
}
